-- Fewer rows were deleted than were noted. $1: what was noted, $2: how many were deleted.
with none as (
    delete from schoolbell.deletion
    where id = $1
        and $2::int8 = 0
)
update schoolbell.deletion
set rows = $2
where id = $1
    and $2::int8 > 0
