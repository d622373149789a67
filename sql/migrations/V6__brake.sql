-- Target rows that may be deleted: noted before they are, so that no crash and no number of short runs lets more of
-- them go within a while than the mapping's brake allows.
create table schoolbell.deletion (
    id bigint generated always as identity primary key,
    object text not null,
    rows bigint not null check (rows > 0),
    noted_at timestamptz not null default pg_catalog.clock_timestamp()
);

create index deletion_object on schoolbell.deletion (object, noted_at);

comment on table schoolbell.deletion is
    'How many target rows of each object were deleted lately. Counts only.';

-- A deletion that the brake holds is parked as dead until a human releases or forgets it. That a held key is due means
-- that a human has released it.
alter table schoolbell.parked
    add column held boolean not null default false,
    add constraint parked_held_check check (not held or state = 'dead');

create index parked_held on schoolbell.parked (object)
    where held;
