-- What was applied leaves the outbox, in one statement with what must be kept for later. $1, $2:
-- transactions and ids of the changes. $3, $4: objects and keys that are done. $5 to $13: the keys
-- to park: object, key, state, awaits, awaits_key, reason, sqlstate, remedy, held. $14, $15: the
-- target that all of that is about, its system and database. It returns whether the changes still
-- go there; until this transaction has ended nobody can adopt another target. $16: after how many
-- seconds each of the keys to park is tried again for the first time, if it is retried by the
-- clock.
with paired as materialized (
    select
    from schoolbell.pairing
    where target_system = $14
        and target_database = $15
    for share
), acknowledged as (
    -- Each through the index, however many rows the planner believed that there are: the plan may
    -- have been made while the outbox was empty.
    delete from schoolbell.change as c
    where c.ctid = any (array(
        select found.ctid
        from unnest($1::text[], $2::int8[]) as done (xact, id)
        cross join lateral (
            select change.ctid
            from schoolbell.change
            where change.xact = done.xact::xid8
                and change.id = done.id
            offset 0
        ) as found
    ))
), locked as (
    -- All keys that are freed or parked again are locked first, in the order in which others lock
    -- them (parked_wake.sql), so the two cannot deadlock.
    select p.id, k.done
    from (
        select done.object, done.key, true
        from unnest($3::text[], $4::text[]) as done (object, key)
        union all
        select again.object, again.key, false
        from unnest($5::text[], $6::text[]) as again (object, key)
        order by 1, 2
    ) as k (object, key, done)
    cross join lateral (
        select present.id
        from schoolbell.parked as present
        where present.object = k.object
            and left(present.key, 200) = left(k.key, 200)
            and present.key = k.key
        for update
    ) as p
), freed as (
    delete from schoolbell.parked as p
    where p.id = any (array(
        select locked.id
        from locked
        where locked.done
    ))
), parked as (
    insert into schoolbell.parked as p (
        object, key, state, awaits, awaits_key, reason, sqlstate, remedy, held, attempts, due_at
    )
    select
        k.object, k.key, k.state, k.awaits, k.awaits_key, k.reason, k.sqlstate, k.remedy, k.held, 1,
        case when k.state = 'retrying' then pg_catalog.clock_timestamp() + interval '1 second' * k.retry_seconds end
    from unnest(
        $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::boolean[],
        $16::int4[]
    ) as k (object, key, state, awaits, awaits_key, reason, sqlstate, remedy, held, retry_seconds)
    -- Referred to only so that it is executed first.
    where (select count(*) from locked) >= 0
    on conflict (object, left(key, 200), hashtextextended(key, 0), hashtextextended(key, 1)) do update
    set state = excluded.state,
        awaits = excluded.awaits,
        awaits_key = excluded.awaits_key,
        reason = excluded.reason,
        sqlstate = excluded.sqlstate,
        remedy = excluded.remedy,
        held = excluded.held,
        -- Attempts are counted per state, so that a long wait for a parent does not lengthen the
        -- later retries.
        attempts = case when p.state = excluded.state then p.attempts + 1 else 1 end,
        -- Twice as long each time, up to 5 min, with jitter so that many rows do not come back at once.
        due_at = case when excluded.state = 'retrying' then
            pg_catalog.clock_timestamp()
                + least(
                    (excluded.due_at - pg_catalog.clock_timestamp()) * pg_catalog.power(2, least(p.attempts, 10)),
                    interval '5 minutes'
                )
                * (0.75 + pg_catalog.random() / 2)
        end,
        tried_at = pg_catalog.clock_timestamp()
)
select
    exists (
        select
        from paired
    ) as paired
