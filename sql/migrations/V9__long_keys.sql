-- Keys of any length. An index refuses a text of more than some 2,700 bytes, so the indexes have the beginning of a key
-- and two hashes of the whole instead.
alter table schoolbell.parked
    drop constraint parked_pkey,
    -- What a subscriber of the table, if there is one, finds a row by.
    add column id bigint generated always as identity primary key;

create unique index parked_key on schoolbell.parked (
    object,
    pg_catalog.left(key, 200),
    pg_catalog.hashtextextended(key, 0),
    pg_catalog.hashtextextended(key, 1)
);

drop index schoolbell.parked_awaits;

-- The sweep asks for the distinct parents that are waited for, however many rows wait for each.
create index parked_awaits on schoolbell.parked (
    awaits,
    pg_catalog.left(awaits_key, 200),
    pg_catalog.hashtextextended(awaits_key, 0),
    pg_catalog.hashtextextended(awaits_key, 1)
)
    where state = 'waiting';
