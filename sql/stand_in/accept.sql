-- Simulates Salesforce for one round: takes what Heroku Connect's triggers logged and answers it.
-- An accepted row gets an sfid and comes back as Salesforce keeps it: datetimes cut to the second,
-- text trimmed, empty text null. A row whose parent Salesforce does not know is refused for good.
-- Safe to repeat and to run several times at once: rounds take turns, and a row that is being
-- written is left for the next round, so a round never waits for a user and cannot deadlock with
-- one.

begin;

-- These are Heroku Connect's own writes: the triggers must neither log them nor call them PENDING.
set local xmlbinary = 'hex';

do $accept$
declare
    -- Salesforce's trimming knows more than the blank.
    blanks constant text := e' \t\n\r\x0b\f';
    -- What Salesforce sets itself, and what is never sent to it.
    own_columns constant text[] :=
        array['id', 'sfid', 'createddate', 'systemmodstamp', 'isdeleted', '_hc_lastop', '_hc_err'];
    claimed integer[];
    mapped record;
    normalised text;
    unknown_parent text;
begin
    perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('salesforce accept'));

    claimed := array(
        select entry.id
        from salesforce._trigger_log as entry
        where entry.state = 'NEW'
        order by entry.id
        limit 2000
        for update skip locked
    );

    for mapped in
        select
            entry.table_name as name,
            format('salesforce.%I', entry.table_name) as sql_name,
            to_regclass(format('salesforce.%I', entry.table_name)) as oid,
            array_agg(distinct entry.record_id) as record_ids,
            coalesce(
                array_agg(distinct entry.record_id) filter (where entry.action = 'INSERT'),
                '{}'
            ) as inserted_ids
        from salesforce._trigger_log as entry
        where entry.id = any (claimed)
        group by entry.table_name
        -- Children before parents. Heroku Connect writes table after table and promises no order, so a
        -- child that was written together with its parent meets the order that hurts.
        order by exists (
            select
            from pg_catalog.pg_attribute as reference
            where reference.attrelid = to_regclass(format('salesforce.%I', entry.table_name))
                and strpos(reference.attname, '__r__') > 0
        ) desc, entry.table_name
    loop
        if mapped.oid is null then
            update salesforce._trigger_log as entry
            set
                state = 'IGNORED',
                sf_message = 'the table is not mapped any more',
                processed_at = clock_timestamp()
            where entry.id = any (claimed)
                and entry.table_name = mapped.name;
            continue;
        end if;

        -- ", a = <a as Salesforce keeps it>, b = ..."
        select
            coalesce(string_agg(
                case
                    when field.atttypid in ('varchar'::regtype, 'text'::regtype) then
                        format(', %1$I = nullif(btrim(target.%1$I, %2$L), '''')', field.attname, blanks)
                    when field.atttypid = 'timestamp'::regtype then
                        format(', %1$I = date_trunc(''second'', target.%1$I)', field.attname)
                end,
                ''
            ), '')
        into normalised
        from pg_catalog.pg_attribute as field
        where field.attrelid = mapped.oid
            and field.attnum > 0
            and not field.attisdropped
            and field.attname <> all (own_columns);

        -- Column editor__r__editoruuid__c names a row of the table that has a column editoruuid__c,
        -- here editor__c. An empty reference is not an error; a row without sfid is one that
        -- Salesforce does not know.
        select
            'coalesce(' || string_agg(
                format(
                    $parent$
                        case
                            when target.%1$I is not null and not exists (
                                select
                                from salesforce.%3$I as parent
                                where parent.%2$I = target.%1$I
                                    and parent.sfid is not null
                            )
                            then 'Foreign key external ID: ' || target.%1$I || ' not found for field %2$s in entity %3$s'
                        end
                    $parent$,
                    reference.attname,
                    parent_key.attname,
                    parent.relname
                ),
                ', '
                order by reference.attnum
            ) || ')'
        into unknown_parent
        from pg_catalog.pg_attribute as reference
        join pg_catalog.pg_attribute as parent_key
            on parent_key.attname = split_part(reference.attname, '__r__', 2)
        join pg_catalog.pg_class as parent
            on parent.oid = parent_key.attrelid
            and parent.relkind = 'r'
            and parent.relnamespace = 'salesforce'::regnamespace
        where reference.attrelid = mapped.oid
            and strpos(reference.attname, '__r__') > 0
            and not reference.attisdropped
            and not parent_key.attisdropped;

        execute format(
            $statement$
                with judged as (
                    select
                        target.id,
                        coalesce(
                            -- Once refused, it stays refused: an update does not repeat the failed
                            -- insert, even if the parent has arrived meanwhile.
                            case
                                when target.sfid is null and target.id <> all ($3) then (
                                    select entry.sf_message
                                    from salesforce._trigger_log as entry
                                    where entry.state = 'FAILED'
                                        and entry.action = 'INSERT'
                                        and entry.table_name = $4
                                        and entry.record_id = target.id
                                    order by entry.id desc
                                    limit 1
                                )
                            end,
                            %3$s
                        ) as refusal
                    from %1$s as target
                    where target.id = any ($2)
                    for update of target skip locked
                ),
                accepted as (
                    update %1$s as target
                    set
                        -- 18 characters: prefix of the object, the row's number, a suffix.
                        sfid = coalesce(target.sfid, $5 || lpad(target.id::text, 12, '0') || 'AAA'),
                        createddate = coalesce(target.createddate, date_trunc('second', now() at time zone 'utc')),
                        systemmodstamp = date_trunc('second', now() at time zone 'utc'),
                        isdeleted = coalesce(target.isdeleted, false),
                        _hc_lastop = case when target.sfid is null then 'INSERTED' else 'UPDATED' end,
                        _hc_err = null
                        %2$s
                    from judged
                    where judged.id = target.id
                        and judged.refusal is null
                    returning target.id, target.sfid
                ),
                refused as (
                    update %1$s as target
                    set
                        _hc_lastop = 'FAILED',
                        _hc_err = judged.refusal
                    from judged
                    where judged.id = target.id
                        and judged.refusal is not null
                        -- Setting FAILED again would look like no value set, and make the row SYNCED.
                        and target._hc_lastop is distinct from 'FAILED'
                )
                update salesforce._trigger_log as entry
                set
                    state = case when judged.refusal is null then 'SUCCESS' else 'FAILED' end,
                    sfid = coalesce(accepted.sfid, entry.sfid),
                    sf_message = judged.refusal,
                    updated_at = clock_timestamp(),
                    processed_at = clock_timestamp(),
                    processed_tx = txid_current()
                from judged
                left join accepted
                    on accepted.id = judged.id
                where entry.id = any ($1)
                    and entry.table_name = $4
                    and entry.record_id = judged.id
                    and entry.action <> 'DELETE'
            $statement$,
            mapped.sql_name,
            normalised,
            coalesce(unknown_parent, 'null')
        )
        using
            claimed,
            mapped.record_ids,
            mapped.inserted_ids,
            mapped.name,
            case
                when mapped.name = 'contact' then '003'
                else 'a' || left(md5(mapped.name), 2)
            end;

        -- A deleted row is deleted there, too. An entry of a row that was deleted before Salesforce
        -- heard of it has nothing left to send. Entries that are still NEW after this belong to
        -- rows that are being written.
        execute format(
            $statement$
                update salesforce._trigger_log as entry
                set
                    state = case when entry.action = 'DELETE' then 'SUCCESS' else 'IGNORED' end,
                    updated_at = clock_timestamp(),
                    processed_at = clock_timestamp(),
                    processed_tx = txid_current()
                where entry.id = any ($1)
                    and entry.table_name = $2
                    and entry.state = 'NEW'
                    and (
                        entry.action = 'DELETE'
                        or not exists (
                            select
                            from %1$s as target
                            where target.id = entry.record_id
                        )
                    )
            $statement$,
            mapped.sql_name
        )
        using claimed, mapped.name;
    end loop;
end
$accept$;

commit;
