//! Plausible schools and the people in them: the same on every run, and as untidy as real ones.
//!
//! Blanks at the ends, empty texts, names that are too long for Salesforce, rejected attempts,
//! microseconds: everything that a mapping must handle is in here, as often as it occurs in
//! practice.

use std::fmt::Write;

use fastrand::Rng;
use jiff::Timestamp;

/// The columns of [`SchoolBatch::schools`].
pub const SCHOOL_COLUMNS: &str = "id, name, reference, address_line_1, address_line_2, municipality, \
     administrative_area, postal_code, country_code, verified_at, created_at, updated_at, creator_id, \
     creator_agree_authority, creator_agree_terms_and_conditions, creator_agree_to_ux_contact, \
     creator_department, creator_role, rejected_at, website, user_origin, district_name, district_nces_id, \
     school_roll_number, code";
/// The columns of [`SchoolBatch::roles`]. The id is the table's own.
pub const ROLE_COLUMNS: &str = "user_id, school_id, role, created_at, updated_at";

const STUDENT: &str = "0";
const TEACHER: &str = "1";
const OWNER: &str = "2";

/// Schools and roles in the form that COPY reads.
#[derive(Debug, Default)]
pub struct SchoolBatch {
    /// Lines of `schools`.
    pub schools: String,
    /// Lines of `roles`.
    pub roles: String,
    /// Everybody with a published role: Salesforce has a contact for each.
    pub people: Vec<String>,
    /// How many lines `schools` has.
    pub school_count: usize,
    /// How many lines `roles` has.
    pub role_count: usize,
    /// How many of them are students.
    pub student_count: usize,
}

/// Makes batches; no two have a school or a person in common.
#[derive(Debug)]
pub struct SchoolData {
    random: Rng,
    made: u32,
}

struct Country {
    code: &'static str,
    /// Town, county or state, beginning of the postal code.
    towns: &'static [(&'static str, &'static str, &'static str)],
    kinds: &'static [&'static str],
    domain: &'static str,
    /// Of a hundred schools.
    share: u32,
}

const COUNTRIES: [Country; 4] = [
    Country {
        code: "GB",
        towns: &[
            ("Leeds", "West Yorkshire", "LS"),
            ("Cambridge", "Cambridgeshire", "CB"),
            ("Norwich", "Norfolk", "NR"),
            ("Exeter", "Devon", "EX"),
            ("Aberystwyth", "Ceredigion", "SY"),
            ("Stirling", "Stirling", "FK"),
            ("Lancaster", "Lancashire", "LA"),
            ("St Albans", "Hertfordshire", "AL"),
        ],
        kinds: &[
            "Primary School",
            "Academy",
            "C of E Primary School",
            "High School",
            "Junior School",
        ],
        domain: "sch.uk",
        share: 70,
    },
    Country {
        code: "US",
        towns: &[
            ("Portland", "Oregon", "972"),
            ("Madison", "Wisconsin", "537"),
            ("Burlington", "Vermont", "054"),
            ("Santa Fe", "New Mexico", "875"),
        ],
        kinds: &["Elementary School", "Middle School", "High School", "Charter School"],
        domain: "k12.us",
        share: 15,
    },
    Country {
        code: "IE",
        towns: &[
            ("Cork", "County Cork", "T12"),
            ("Galway", "County Galway", "H91"),
            ("Dún Laoghaire", "County Dublin", "A96"),
        ],
        kinds: &["National School", "Community College", "Secondary School"],
        domain: "ie",
        share: 10,
    },
    Country {
        code: "FR",
        towns: &[("Nîmes", "Gard", "300"), ("Besançon", "Doubs", "250")],
        kinds: &["École Élémentaire", "Collège", "Lycée"],
        domain: "fr",
        share: 5,
    },
];

const NAMES: [&str; 24] = [
    "St Mary's",
    "Oakfield",
    "Riverside",
    "Hillcrest",
    "All Saints'",
    "Brookside",
    "Queen Elizabeth's",
    "Meadow Lane",
    "Holy Trinity",
    "Ashgrove",
    "Northgate",
    "Kingsway",
    "Beechwood",
    "St Bríd's",
    "Castle View",
    "Lakeside",
    "Elm Tree",
    "Westfield",
    "Ada Lovelace",
    "Heron Park",
    "Curie",
    "St John's",
    "Fairview",
    "Dr Grey's",
];
const STREETS: [&str; 8] = [
    "Church Lane",
    "School Road",
    "Station Road",
    "High Street",
    "Mill Lane",
    "Park Avenue",
    "The Green",
    "Elm Drive",
];
const DEPARTMENTS: [&str; 4] = ["Computing", "Mathematics", "Science", "Library"];
const CREATOR_ROLES: [&str; 3] = ["Teacher", "Head of department", "Administrator"];

/// 2021-01-01, and five years.
const FIRST_DAY: i64 = 1_609_459_200;
const DAYS: i64 = 5 * 365;

impl SchoolData {
    /// Always begins in the same way: a demo is easier to talk about when everybody sees the same schools.
    pub fn new() -> Self {
        Self { random: Rng::with_seed(0x5c00_1be1), made: 0 }
    }

    /// This many schools, each with an owner who created it, and on average one other role.
    pub fn batch(&mut self, schools: u32) -> SchoolBatch {
        let mut batch = SchoolBatch::default();
        // A teacher of an earlier school: some teach at several, but have one role in each.
        let mut elsewhere: Option<String> = None;
        while batch.school_count < schools as usize {
            let creator = self.uuid();
            // Somebody whose first attempt was rejected tries again.
            if self.one_in(40) && batch.school_count + 1 < schools as usize {
                self.school(&mut batch, &creator, true);
            }
            let (school, created) = self.school(&mut batch, &creator, false);
            self.role(&mut batch, &creator, &school, OWNER, created);
            batch.people.push(creator);

            let mut here = None;
            for _ in 0..self.random.u32(0..=2) {
                if self.one_in(5) {
                    let student = self.uuid();
                    self.role(&mut batch, &student, &school, STUDENT, created);
                    batch.student_count += 1;
                    continue;
                }
                let teacher = match self.one_in(10).then(|| elsewhere.take()).flatten() {
                    Some(known) => known,
                    None => {
                        let new = self.uuid();
                        batch.people.push(new.clone());
                        new
                    }
                };
                self.role(&mut batch, &teacher, &school, TEACHER, created);
                here = Some(teacher);
            }
            elsewhere = here.or(elsewhere);
        }
        batch
    }

    fn school(&mut self, batch: &mut SchoolBatch, creator: &str, rejected: bool) -> (String, i64) {
        self.made += 1;
        let number = self.made;
        let id = self.uuid();
        let country = self.country();
        let (town, area, postal) = country.towns[self.random.usize(..country.towns.len())];
        let title = self.pick(&NAMES);
        let created = self.moment();
        let updated = created + i64::from(self.random.u32(..)) * 1_000;
        let website = format!(
            "https://www.{}{number}.{}",
            title.to_lowercase().replace(|c: char| !c.is_ascii_lowercase(), ""),
            country.domain
        );
        let in_us = country.code == "US";
        let known_to = |code: &str| country.code == code;
        let house = self.random.u32(1..200);
        let street = self.pick(&STREETS);

        let line = Line::default()
            .value(&id)
            .value(&self.name(title, country, town))
            .optional((self.one_in(2) && known_to("GB")).then(|| (100_000 + number).to_string()))
            .value(&format!("{house} {street}"))
            .optional(
                self.one_in(4)
                    .then(|| if self.one_in(3) { String::new() } else { format!("{town} East") }),
            )
            .value(&if self.one_in(100) { format!(" {town} ") } else { town.to_string() })
            .optional((!self.one_in(8)).then(|| area.to_string()))
            .optional(
                (!self.one_in(20)).then(|| format!("{postal}{} {}AB", house % 20, number % 9 + 1)),
            )
            .value(country.code)
            .optional((!rejected && !self.one_in(4)).then(|| timestamp(updated)))
            .value(&timestamp(created))
            .value(&timestamp(updated))
            .value(creator)
            .value("t")
            .value("t")
            .value(if self.one_in(3) { "t" } else { "f" })
            .optional((!self.one_in(3)).then(|| self.pick(&DEPARTMENTS).to_string()))
            .optional((!self.one_in(3)).then(|| self.pick(&CREATOR_ROLES).to_string()))
            .optional(rejected.then(|| timestamp(updated)))
            .value(&website)
            .optional(
                (!self.one_in(50)).then(|| if self.one_in(6) { "1" } else { "0" }.to_string()),
            )
            .optional(in_us.then(|| format!("{town} School District")))
            .optional(in_us.then(|| format!("{:07}", 4_100_000 + number)))
            .optional(known_to("IE").then(|| {
                format!("{:05}{}", 10_000 + number, char::from(b'A' + (number % 26) as u8))
            }))
            .value(&format!(
                "{:02}-{:02}-{:02}",
                number / 10_000,
                number / 100 % 100,
                number % 100
            ));
        batch.schools.push_str(&line.end());
        batch.school_count += 1;
        (id, created)
    }

    fn role(
        &mut self,
        batch: &mut SchoolBatch,
        user: &str,
        school: &str,
        role: &str,
        school_created: i64,
    ) {
        let created = school_created + i64::from(self.random.u32(..)) * 500;
        let line = Line::default()
            .value(user)
            .value(school)
            .value(role)
            .value(&timestamp(created))
            .value(&timestamp(created));
        batch.roles.push_str(&line.end());
        batch.role_count += 1;
    }

    fn name(&mut self, title: &str, country: &Country, town: &str) -> String {
        let kind = country.kinds[self.random.usize(..country.kinds.len())];
        let name = match country.code {
            "FR" => format!("{kind} {title}"),
            _ => format!("{title} {kind}"),
        };
        match self.random.u32(..100) {
            // Salesforce's names end after 80 characters.
            0 => format!(
                "{name} and Nursery, a Voluntary Aided Member of the {town} and District Learning Partnership"
            ),
            1 => format!("{name} "),
            2 => format!("\t{name}"),
            3..40 => format!("{name}, {town}"),
            _ => name,
        }
    }

    fn country(&mut self) -> &'static Country {
        let mut place = self.random.u32(..100);
        for country in &COUNTRIES {
            if place < country.share {
                return country;
            }
            place -= country.share;
        }
        &COUNTRIES[0]
    }

    /// Microseconds since 1970.
    fn moment(&mut self) -> i64 {
        let second = FIRST_DAY + self.random.i64(0..DAYS * 86_400);
        second * 1_000_000 + self.random.i64(0..1_000_000)
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.random.u32(..many) == 0
    }

    fn pick(&mut self, from: &[&'static str]) -> &'static str {
        from[self.random.usize(..from.len())]
    }

    fn uuid(&mut self) -> String {
        // Version 4 (random), variant 1.
        let bits = self.random.u128(..) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

fn timestamp(microseconds: i64) -> String {
    // Out of range would need a year beyond 9999.
    let moment = Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    moment.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

/// One line of COPY's text format.
#[derive(Default)]
struct Line(String);

impl Line {
    fn value(mut self, value: &str) -> Self {
        if !self.0.is_empty() {
            self.0.push('\t');
        }
        for character in value.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '\t' => self.0.push_str("\\t"),
                '\n' => self.0.push_str("\\n"),
                '\r' => self.0.push_str("\\r"),
                other => self.0.push(other),
            }
        }
        self
    }

    fn optional(mut self, value: Option<String>) -> Self {
        match value {
            Some(value) => self.value(&value),
            None => {
                let _ = write!(self.0, "\t\\N");
                self
            }
        }
    }

    fn end(mut self) -> String {
        self.0.push('\n');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_schools_are_made_on_every_run() {
        let [one, two] = [SchoolData::new().batch(300), SchoolData::new().batch(300)];
        assert_eq!(one.schools, two.schools);
        assert_eq!(one.school_count, 300);
        assert_eq!(one.schools.lines().count(), 300);
        assert_eq!(one.roles.lines().count(), one.role_count);
        assert!(
            one.schools
                .lines()
                .all(|line| line.split('\t').count() == SCHOOL_COLUMNS.split(',').count())
        );
    }

    #[test]
    fn nobody_has_the_same_role_twice() {
        let batch = SchoolData::new().batch(3_000);
        let roles: HashSet<Vec<&str>> =
            batch.roles.lines().map(|line| line.split('\t').take(3).collect()).collect();
        assert_eq!(roles.len(), batch.role_count);
        assert!((5_500..6_500).contains(&batch.role_count), "{}", batch.role_count);
    }

    #[test]
    fn a_value_cannot_break_out_of_its_column() {
        assert_eq!(Line::default().value("a\tb\\").optional(None).end(), "a\\tb\\\\\t\\N\n");
    }

    #[test]
    fn uuids_have_their_version_and_variant() {
        let mut data = SchoolData::new();
        for _ in 0..100 {
            let uuid = data.uuid();
            assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
            assert!("89ab".contains(&uuid[19..20]));
        }
    }
}
