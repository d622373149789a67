-- Parked keys that are due again, the longest due first. $1: the objects of the mapping, $2: at most this many,
-- $3, $4: objects whose rows are deleted, each with one whose rows leave before. $5: due after this moment, or null.
-- The statement's time, not the clock's: that one would be asked for every row instead of the index.
select
    p.object,
    p.key,
    -- A held key is due only because a human released it.
    p.held as released,
    p.due_at
from schoolbell.parked as p
where p.due_at <= pg_catalog.statement_timestamp()
    and p.due_at > coalesce($5, '-infinity')
    and p.object = any ($1)
    -- Children leave first, also when many were released together.
    and not (
        p.held
        and p.object = any (array(
            select first.object
            from unnest($3::text[], $4::text[]) as first (object, child)
            where coalesce((
                select true
                from schoolbell.parked as c
                where c.object = first.child
                    and c.held
                    and c.due_at <= pg_catalog.statement_timestamp()
                limit 1
            ), false)
        ))
    )
order by p.due_at
limit $2
