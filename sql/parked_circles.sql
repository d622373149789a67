-- Keys that wait for each other, so that none of them can ever be written: each becomes dead, with
-- the circle as the reason. $1: object, $2: what waiting for a parent of the same object is called,
-- $3: keys that have just begun to wait, $4: what helps.
with recursive chain as (
    select k.key as start, p.awaits_key, array[k.key] as path
    from unnest($3::text[]) as k (key)
    cross join lateral (
        select parked.awaits_key
        from schoolbell.parked
        where parked.object = $1
            and left(parked.key, 200) = left(k.key, 200)
            and parked.key = k.key
            and parked.awaits = $2
        offset 0
    ) as p
    union all
    select c.start, p.awaits_key, c.path || p.key
    from chain c
    cross join lateral (
        select parked.key, parked.awaits_key
        from schoolbell.parked
        where parked.object = $1
            and left(parked.key, 200) = left(c.awaits_key, 200)
            and parked.key = c.awaits_key
            and parked.awaits = $2
        offset 0
    ) as p
    where c.awaits_key <> all (c.path)
        -- A limit, so that the statement always ends soon.
        and cardinality(c.path) < 1000
), circle as (
    select distinct on (member.key)
        member.key,
        array_to_string(array(select left(step, 40) from unnest(c.path[1:5] || c.start) as step), ' > ') as members
    from chain c
    cross join lateral unnest(c.path) as member (key)
    where c.awaits_key = c.start
    order by member.key
), found as (
    select p.id, circle.members
    from circle
    cross join lateral (
        select parked.id
        from schoolbell.parked
        where parked.object = $1
            and left(parked.key, 200) = left(circle.key, 200)
            and parked.key = circle.key
        offset 0
    ) as p
)
update schoolbell.parked as p
set state = 'dead',
    awaits = null,
    awaits_key = null,
    reason = 'waits for itself, because its parents are a circle: ' || (
        select found.members
        from found
        where found.id = p.id
    ),
    remedy = $4
where p.id = any (array(
    select found.id
    from found
))
returning p.key
