    -- One ring for a transaction is enough; a savepoint that is rolled back takes both back, the ring and the note of it.
    if coalesce(pg_catalog.current_setting('schoolbell.rung', true), '') operator(pg_catalog.<>) {table_literal} then
        perform pg_catalog.pg_notify('{channel}', {payload});
        perform pg_catalog.set_config('schoolbell.rung', {table_literal}, true);
    end if;
