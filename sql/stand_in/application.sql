-- The application's tables, as its Rails migrations leave them: stand-in for tests, demo and compose.
-- Only what Schoolbell reads or may meet here: Rails is the owner of these tables, so there are no
-- triggers of ours in this file. All timestamps are UTC without a zone, as Rails writes them.

create table public.schools (
    id uuid primary key default gen_random_uuid(),
    name varchar not null,
    reference varchar,
    address_line_1 varchar not null,
    address_line_2 varchar,
    municipality varchar not null,
    administrative_area varchar,
    postal_code varchar,
    country_code varchar not null,
    verified_at timestamp(6),
    created_at timestamp(6) not null,
    updated_at timestamp(6) not null,
    creator_id uuid,
    creator_agree_authority boolean,
    creator_agree_terms_and_conditions boolean,
    creator_agree_responsible_safeguarding boolean default true,
    creator_agree_to_ux_contact boolean default false,
    creator_department varchar,
    creator_role varchar,
    rejected_at timestamp(6),
    website varchar not null,
    -- 0 for_education, 1 experience_cs
    user_origin integer default 0,
    district_name varchar,
    district_nces_id varchar,
    school_roll_number varchar,
    code varchar
);

create unique index index_schools_on_code
    on public.schools (code);

-- A rejected school frees its creator, reference and roll number for another attempt. That is why one
-- person can have created several schools, of which at most one is not rejected.
create unique index index_schools_on_creator_id
    on public.schools (creator_id)
    where rejected_at is null;

create unique index index_schools_on_reference
    on public.schools (reference)
    where rejected_at is null;

create unique index index_schools_on_school_roll_number
    on public.schools (school_roll_number)
    where rejected_at is null;

create table public.roles (
    id bigserial primary key,
    user_id uuid,
    -- No foreign key: a role may name a school that is not there (yet, or any more).
    school_id uuid,
    -- 0 student, 1 teacher, 2 owner
    role integer,
    created_at timestamp(6) not null,
    updated_at timestamp(6) not null
);

create unique index index_roles_on_user_id_and_school_id_and_role
    on public.roles (user_id, school_id, role);
