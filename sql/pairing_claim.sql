-- Notes which database this is and to which target its changes go, unless that is noted already,
-- and returns what is noted. $1, $2: the source's system and database, $3, $4: the target's, $5:
-- the target's address.
with noted as (
    insert into schoolbell.pairing (source_system, source_database, target_system, target_database, target_address)
    select $1, $2, $3, $4, $5
    where not exists (select from schoolbell.pairing)
    on conflict (single) do nothing
    returning source_system, source_database, target_system, target_database, target_address, paired_at
)
select source_system, source_database, target_system, target_database, target_address, paired_at
from noted
union all
select source_system, source_database, target_system, target_database, target_address, paired_at
from schoolbell.pairing
