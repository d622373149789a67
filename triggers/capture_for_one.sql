        if {flag} then
            insert into schoolbell.change (source_table, concerns, operation, keys)
            values ({table_literal}, {object}, tg_op, {new_keys});
        end if;
