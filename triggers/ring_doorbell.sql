    -- Whoever sleeps holds this lock exclusively. Getting it shared means: nobody to wake. One ring for a transaction
    -- is enough; a savepoint that is rolled back takes both back, the ring and the note of it.
    if not pg_catalog.pg_try_advisory_xact_lock_shared({bell})
        and coalesce(pg_catalog.current_setting('schoolbell.rung', true), '') operator(pg_catalog.<>) {table_literal}
    then
        -- A full queue of notices makes the writers' commits fail. The service looks by itself while it fills.
        if pg_catalog.pg_notification_queue_usage() operator(pg_catalog.<) {queue_limit}::pg_catalog.float8 then
            perform pg_catalog.pg_notify('{channel}', {payload});
        end if;
        perform pg_catalog.set_config('schoolbell.rung', {table_literal}, true);
    end if;
