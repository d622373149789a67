    -- Whoever sleeps holds this lock exclusively. Getting it shared means: nobody to wake.
    if not pg_catalog.pg_try_advisory_xact_lock_shared({bell}) then
        -- The same payload for every row of the statement: Postgres folds the duplicates.
        perform pg_catalog.pg_notify('{channel}', {payload});
    end if;
