//! Compares every row of both databases at the end of the demo.
//!
//! What a target row should look like is written here a second time, by hand, in plain SQL: so a
//! mistake in the mapping, or in the code that carries it out, cannot hide in its own expectation.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio_postgres::Client;

/// The rows of one object, by external id.
type Rows = BTreeMap<String, Value>;

/// What the story did to rows behind the application's back, or to rows that are gone.
#[derive(Debug, Default)]
pub struct Expected {
    /// Deleted in the application, kept in Salesforce: schools.
    pub kept_schools: HashSet<String>,
    /// Likewise roles.
    pub kept_roles: HashSet<String>,
    /// Likewise the people who created those schools.
    pub kept_contacts: HashSet<String>,
    /// The school whose status a Salesforce user has set to `Approved`.
    pub approved_school: String,
}

/// What the comparison of one object found.
#[derive(Debug, PartialEq, Eq)]
pub struct ObjectCheck {
    /// The object, in the plural.
    pub what: &'static str,
    /// Rows that should be there, by what the source has now.
    pub published: usize,
    /// Of these, rows that are right in every column.
    pub right: usize,
    /// Rows whose source is gone, still there.
    pub kept: usize,
    /// One sentence per mistake.
    pub mistakes: Vec<String>,
}

const PUBLISHED_ROLES: &str = "
    select
        id::text as key,
        jsonb_build_object(
            'contact__r__pi_accounts_unique_id__c', user_id::text,
            'editor__r__editoruuid__c', school_id::text,
            'roletype__c', (array['student', 'teacher', 'owner'])[role + 1],
            'createdat__c', date_trunc('second', created_at),
            'updatedat__c', date_trunc('second', updated_at)
        ) as fields
    from public.roles
    where role is null or role <> 0
";
const FOUND_ROLES: &str = "
    select
        affiliation_id__c as key,
        jsonb_build_object(
            'contact__r__pi_accounts_unique_id__c', contact__r__pi_accounts_unique_id__c,
            'editor__r__editoruuid__c', editor__r__editoruuid__c,
            'roletype__c', roletype__c,
            'createdat__c', createdat__c,
            'updatedat__c', updatedat__c
        ) as fields
    from salesforce.contact_editor_affiliation__c
    where sfid is not null
";
const PUBLISHED_CONTACTS: &str = "
    select distinct on (creator_id)
        creator_id::text as key,
        jsonb_build_object('editoragreetouxcontact__c', creator_agree_to_ux_contact) as fields
    from public.schools
    where creator_id is not null
    order by creator_id, (rejected_at is not null), updated_at desc, id desc
";
/// Contacts of people who have created no school are not ours to write, and stay as Salesforce made them.
const FOUND_CONTACTS: &str = "
    select
        pi_accounts_unique_id__c as key,
        jsonb_build_object('editoragreetouxcontact__c', editoragreetouxcontact__c) as fields
    from salesforce.contact
    where editoragreetouxcontact__c is not null
";

fn published_schools() -> String {
    format!(
        "select
            id::text as key,
            jsonb_build_object(
                'name', {}, 'editorreference__c', {}, 'addressline1__c', {}, 'addressline2__c', {},
                'editormunicipality__c', {}, 'editoradministrativearea__c', {}, 'postcode__c', {},
                'countrycode__c', {}, 'website__c', {}, 'districtnamesupplied__c', {}, 'ncesid__c', {},
                'schoolrollnumber__c', {},
                'verifiedat__c', date_trunc('second', verified_at),
                'createdat__c', date_trunc('second', created_at),
                'updatedat__c', date_trunc('second', updated_at),
                'rejectedat__c', date_trunc('second', rejected_at),
                'userorigin__c', case when user_origin = 1 then 'experience_cs' else 'for_education' end,
                'status__c', case when id::text = $1 then 'Approved' else 'New' end
            ) as fields
        from public.schools",
        kept_text("name", 80),
        kept_text("reference", 255),
        kept_text("address_line_1", 255),
        kept_text("address_line_2", 255),
        kept_text("municipality", 255),
        kept_text("administrative_area", 255),
        kept_text("postal_code", 40),
        kept_text("country_code", 20),
        kept_text("website", 255),
        kept_text("district_name", 255),
        kept_text("district_nces_id", 255),
        kept_text("school_roll_number", 255),
    )
}

const FOUND_SCHOOLS: &str = "
    select
        editoruuid__c as key,
        to_jsonb(school) - array[
            'id', 'sfid', 'createddate', 'systemmodstamp', 'isdeleted', '_hc_lastop', '_hc_err', 'editoruuid__c'
        ] as fields
    from salesforce.editor__c as school
    where sfid is not null
";

/// Trimmed, null instead of nothing, and cut with a sign that something is missing.
fn kept_text(column: &str, length: usize) -> String {
    let text = format!("nullif(btrim({column}, e' \\t\\n\\r\\f\\x0b'), '')");
    let cut = length - 1;
    format!("case when length({text}) > {length} then left({text}, {cut}) || '…' else {text} end")
}

/// Compares the three objects.
pub async fn every_row(
    source: &Client,
    target: &Client,
    expected: &Expected,
) -> Result<[ObjectCheck; 3]> {
    let schools = compare(
        "schools",
        &rows(source, &published_schools(), &[&expected.approved_school]).await?,
        &rows(target, FOUND_SCHOOLS, &[]).await?,
        &expected.kept_schools,
    );
    let roles = compare(
        "roles",
        &rows(source, PUBLISHED_ROLES, &[]).await?,
        &rows(target, FOUND_ROLES, &[]).await?,
        &expected.kept_roles,
    );
    let contacts = compare(
        "contacts",
        &rows(source, PUBLISHED_CONTACTS, &[]).await?,
        &rows(target, FOUND_CONTACTS, &[]).await?,
        &expected.kept_contacts,
    );
    Ok([schools, roles, contacts])
}

async fn rows(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Rows> {
    let rows =
        client.query(sql, parameters).await.context("cannot read the rows for the last check")?;
    Ok(rows.iter().map(|row| (row.get("key"), row.get("fields"))).collect())
}

fn compare(
    what: &'static str,
    published: &Rows,
    found: &Rows,
    kept: &HashSet<String>,
) -> ObjectCheck {
    let mut mistakes = Vec::new();
    let mut right = 0;
    for (key, wanted) in published {
        match found.get(key) {
            None => mistakes.push(format!("{key} is missing, or Salesforce has not accepted it")),
            Some(there) if there == wanted => right += 1,
            Some(there) => mistakes.push(difference(key, wanted, there)),
        }
    }
    for key in kept.iter().filter(|key| !found.contains_key(*key)) {
        mistakes.push(format!("{key} was deleted in the application and should have been kept"));
    }
    for key in found.keys().filter(|key| !published.contains_key(*key) && !kept.contains(*key)) {
        mistakes.push(format!("{key} should not be there"));
    }
    let kept = kept.iter().filter(|key| found.contains_key(*key)).count();
    ObjectCheck { what, published: published.len(), right, kept, mistakes }
}

fn difference(key: &str, wanted: &Value, there: &Value) -> String {
    let fields = wanted.as_object().into_iter().flatten();
    let wrong: Vec<String> = fields
        .filter(|(field, value)| there.get(field) != Some(value))
        .map(|(field, value)| {
            let there = there.get(field).unwrap_or(&Value::Null);
            format!("{field} is {there}, should be {value}")
        })
        .collect();
    format!("{key}: {}", wrong.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(rows: &[(&str, Value)]) -> Rows {
        rows.iter().map(|(key, value)| (key.to_string(), value.clone())).collect()
    }

    #[test]
    fn missing_different_lost_and_unexpected_rows_are_mistakes() {
        let published =
            rows(&[("a", json!({"n": 1})), ("b", json!({"n": 2})), ("c", json!({"n": 3}))]);
        let found = rows(&[
            ("a", json!({"n": 1})),
            ("b", json!({"n": 0})),
            ("x", json!({})),
            ("k", json!({})),
        ]);
        let kept = HashSet::from(["k".to_string(), "l".to_string()]);

        let compared = compare("schools", &published, &found, &kept);

        assert_eq!((compared.published, compared.right, compared.kept), (3, 1, 1));
        assert_eq!(
            compared.mistakes,
            [
                "b: n is 0, should be 2",
                "c is missing, or Salesforce has not accepted it",
                "l was deleted in the application and should have been kept",
                "x should not be there",
            ]
        );
    }
}
