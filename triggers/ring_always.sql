    -- The same payload for every row of the statement: Postgres folds the duplicates.
    perform pg_catalog.pg_notify('{channel}', {payload});
