//! What the target must hold, worked out row by row in Rust from CONTRACT's words: not from the mapping, and
//! not with its SQL. Rows that were written before their source left the publication may stay.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::{Row, rows};

const SCHOOLS: &str = "select id::text, name, reference, address_line_1, address_line_2, municipality, \
    administrative_area, postal_code, country_code, verified_at::text, created_at::text, updated_at::text, \
    creator_id::text, creator_agree_to_ux_contact::text, rejected_at::text, website, user_origin::text, \
    district_name, district_nces_id, school_roll_number from schools";
const ROLES: &str = "select id::text, user_id::text, school_id::text, role::text, created_at::text, updated_at::text \
                     from roles";
const EDITORS: &str = "select editoruuid__c as key, name, editorreference__c, addressline1__c, addressline2__c, \
    editormunicipality__c, editoradministrativearea__c, postcode__c, countrycode__c, verifiedat__c::text, \
    createdat__c::text, updatedat__c::text, rejectedat__c::text, website__c, userorigin__c, \
    districtnamesupplied__c, ncesid__c, schoolrollnumber__c, sfid from salesforce.editor__c";
const AFFILIATIONS: &str = "select affiliation_id__c as key, contact__r__pi_accounts_unique_id__c, \
    editor__r__editoruuid__c, roletype__c, createdat__c::text, updatedat__c::text \
    from salesforce.contact_editor_affiliation__c";
const CONTACTS: &str = "select pi_accounts_unique_id__c as key, editoragreetouxcontact__c::text, sfid \
    from salesforce.contact where pi_accounts_unique_id__c is not null";
const LENGTHS: &str = "select a.attrelid::regclass::text || '.' || a.attname as key, (a.atttypmod - 4)::text as chars \
    from pg_attribute a where a.attrelid in ('salesforce.editor__c'::regclass, \
    'salesforce.contact_editor_affiliation__c'::regclass) and a.atttypid = 'varchar'::regtype and a.atttypmod > 4";

type Rows = BTreeMap<String, Row>;

/// Compares every row of the three tables, and returns how many; panics with the first differences.
pub async fn check(source: &Client, target: &Client) -> usize {
    let schools = rows(source, SCHOOLS).await;
    let roles = rows(source, ROLES).await;
    let editors = by_key(rows(target, EDITORS).await);
    let affiliations = by_key(rows(target, AFFILIATIONS).await);
    let contacts = by_key(rows(target, CONTACTS).await);
    let lengths: BTreeMap<String, usize> = by_key(rows(target, LENGTHS).await)
        .into_iter()
        .map(|(key, row)| (key, row["chars"].as_deref().unwrap().parse().unwrap()))
        .collect();
    let max =
        |table: &str, column: &str| lengths.get(&format!("salesforce.{table}.{column}")).copied();

    let mut compared = 0;
    let mut wrong = Vec::new();
    for school in &schools {
        compared += 1;
        let wanted = expected_school(school, |column| max("editor__c", column));
        compare(
            "school",
            &text(school, "id"),
            &wanted,
            editors.get(&text(school, "id")),
            &mut wrong,
        );
    }
    for role in roles.iter().filter(|role| role["role"].as_deref() != Some("0")) {
        let known = |table: &Rows, key: &Option<String>| match key {
            None => true,
            Some(key) => table.get(key).is_some_and(|row| row["sfid"].is_some()),
        };
        if known(&editors, &role["school_id"]) && known(&contacts, &role["user_id"]) {
            compared += 1;
            let wanted = expected_role(role);
            compare(
                "role",
                &text(role, "id"),
                &wanted,
                affiliations.get(&text(role, "id")),
                &mut wrong,
            );
        }
    }
    let mut by_creator: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for school in &schools {
        if let Some(creator) = &school["creator_id"] {
            by_creator.entry(creator).or_default().push(school);
        }
    }
    for (key, contact) in &contacts {
        if let Some(winner) = by_creator.get(key.as_str()).and_then(|schools| winner(schools)) {
            compared += 1;
            let wanted = BTreeMap::from([(
                "editoragreetouxcontact__c".to_string(),
                winner["creator_agree_to_ux_contact"].clone(),
            )]);
            compare("contact", key, &wanted, Some(contact), &mut wrong);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differences, among them:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
    compared
}

fn by_key(rows: Vec<Row>) -> Rows {
    rows.into_iter().map(|row| (text(&row, "key"), row)).collect()
}

fn text(row: &Row, column: &str) -> String {
    row[column].clone().unwrap()
}

fn compare(object: &str, key: &str, wanted: &Row, found: Option<&Row>, wrong: &mut Vec<String>) {
    let Some(found) = found else {
        wrong.push(format!("{object} {key} is missing"));
        return;
    };
    for (column, value) in wanted {
        if found[column] != *value {
            wrong
                .push(format!("{object} {key} {column}: {:?} instead of {value:?}", found[column]));
        }
    }
}

fn expected_school(school: &Row, max: impl Fn(&str) -> Option<usize>) -> Row {
    let mut row = Row::new();
    for (target, source) in [
        ("name", "name"),
        ("editorreference__c", "reference"),
        ("addressline1__c", "address_line_1"),
        ("addressline2__c", "address_line_2"),
        ("editormunicipality__c", "municipality"),
        ("editoradministrativearea__c", "administrative_area"),
        ("postcode__c", "postal_code"),
        ("countrycode__c", "country_code"),
        ("website__c", "website"),
        ("districtnamesupplied__c", "district_name"),
        ("ncesid__c", "district_nces_id"),
        ("schoolrollnumber__c", "school_roll_number"),
    ] {
        row.insert(target.into(), normal(school[source].as_deref(), max(target)));
    }
    for (target, source) in [
        ("verifiedat__c", "verified_at"),
        ("createdat__c", "created_at"),
        ("updatedat__c", "updated_at"),
        ("rejectedat__c", "rejected_at"),
    ] {
        row.insert(target.into(), seconds(school[source].as_deref()));
    }
    let origin = match school["user_origin"].as_deref() {
        Some("1") => "experience_cs",
        _ => "for_education",
    };
    row.insert("userorigin__c".into(), Some(origin.into()));
    row
}

fn expected_role(role: &Row) -> Row {
    let name = role["role"].as_deref().and_then(|role| match role {
        "1" => Some("teacher".to_string()),
        "2" => Some("owner".to_string()),
        _ => None,
    });
    Row::from([
        ("contact__r__pi_accounts_unique_id__c".into(), role["user_id"].clone()),
        ("editor__r__editoruuid__c".into(), role["school_id"].clone()),
        ("roletype__c".into(), name),
        ("createdat__c".into(), seconds(role["created_at"].as_deref())),
        ("updatedat__c".into(), seconds(role["updated_at"].as_deref())),
    ])
}

/// Not rejected wins, then updated last, then the greater id. Timestamps of one form sort as text.
fn winner<'a>(schools: &[&'a Row]) -> Option<&'a Row> {
    schools.iter().copied().max_by_key(|school| {
        (school["rejected_at"].is_none(), padded(&text(school, "updated_at")), text(school, "id"))
    })
}

/// Postgres leaves trailing zeros of a fraction out, which would sort wrongly.
fn padded(timestamp: &str) -> String {
    let (seconds, fraction) = timestamp.split_once('.').unwrap_or((timestamp, ""));
    format!("{seconds}.{fraction:0<6}")
}

fn seconds(timestamp: Option<&str>) -> Option<String> {
    timestamp.map(|timestamp| timestamp.split('.').next().unwrap().to_string())
}

fn normal(value: Option<&str>, max: Option<usize>) -> Option<String> {
    let trimmed = value?.trim_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    if trimmed.is_empty() {
        return None;
    }
    match max {
        Some(max) if trimmed.chars().count() > max => {
            Some(trimmed.chars().take(max - 1).chain(['…']).collect())
        }
        _ => Some(trimmed.to_string()),
    }
}
