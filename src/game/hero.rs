//! Heroes: who fights, and the import of the public superhero JSON.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// A hero's number in the roster; the field of the `superheros` hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeroId(pub u32);

impl fmt::Display for HeroId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A hero of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hero {
    /// Its number.
    pub id: HeroId,
    /// Damage of one attack, in health points: speed × power × combat.
    pub attack: u64,
    /// Health points at the start of a duel: intelligence × strength × durability × 10.
    pub health: u64,
    /// The JSON that the `superheros` hash holds for it: the source object without `id` and `response`, powerstats as
    /// integers, with `powerstats.health` and `powerstats.attack`.
    pub json: String,
}

/// The six powerstats, in the order of the public file.
pub(crate) const POWERSTATS: [&str; 6] = ["intelligence", "strength", "speed", "durability", "power", "combat"];

/// The highest powerstat taken. The public file's are up to 110; three of this one multiplied, times 10, are still
/// counted exactly by what keeps numbers as doubles (Lua in Redis, JavaScript).
pub const MAX_POWERSTAT: u64 = 1_000;

/// Heroes of one file; the public one has some 700.
pub const MAX_HEROES: usize = 10_000;

/// Why a hero file was refused, whole.
#[derive(Debug, thiserror::Error)]
pub enum HeroError {
    /// The text is not JSON, or not an array of objects.
    #[error("not a JSON array of heroes: {reason}")]
    Json {
        /// What it is instead, shortened if it is long.
        reason: String,
    },
    /// More heroes than are taken.
    #[error("the array holds {count} heroes, and {MAX_HEROES} are the limit")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// The array is empty.
    #[error("the array holds no hero")]
    Empty,
    /// A hero that is not an object.
    #[error("{hero} is not an object: {reason}")]
    NotAnObject {
        /// Which.
        hero: HeroPlace,
        /// What it is instead, shortened if it is long.
        reason: String,
    },
    /// A field that every hero needs.
    #[error("{hero}: {field} is missing")]
    Missing {
        /// Which.
        hero: HeroPlace,
        /// The field's path, such as `powerstats.speed`.
        field: String,
    },
    /// A field twice in one object, so that it is open which one counts.
    #[error("{hero}: {field} is there twice")]
    Repeated {
        /// Which.
        hero: HeroPlace,
        /// The field's path, shortened if it is long.
        field: String,
    },
    /// A field whose value is not what it should be.
    #[error("{hero}: {field} is {value}, expected {expected}")]
    Invalid {
        /// Which.
        hero: HeroPlace,
        /// The field's path.
        field: String,
        /// The JSON of its value, shortened if it is long.
        value: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// Two heroes of one id.
    #[error("{hero}: heroes[{first}] has that id already")]
    DuplicateId {
        /// The second of them.
        hero: HeroPlace,
        /// The index of the first.
        first: usize,
    },
}

/// Which hero a mistake is in, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeroPlace {
    /// Its index in the array, from 0; `None` for a hero that was read alone.
    pub index: Option<usize>,
    /// Its id.
    pub id: Option<HeroId>,
    /// Its name, shortened if it is long.
    pub name: Option<String>,
}

impl fmt::Display for HeroPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "heroes[{index}]")?,
            None => f.write_str("hero")?,
        }
        match (&self.id, &self.name) {
            (Some(id), Some(name)) => write!(f, " (id {id}, {name:?})"),
            (Some(id), None) => write!(f, " (id {id})"),
            (None, Some(name)) => write!(f, " ({name:?})"),
            (None, None) => Ok(()),
        }
    }
}

/// Reads the public superhero JSON: an array of objects with `id`, `name` and `powerstats` of six numeric strings.
///
/// Numbers are taken as well as numeric strings; a powerstat that is `"null"`, `null` or 0 counts as 1. Heroes keep the
/// order of the file, and their fields too.
///
/// # Errors
/// The first mistake, with the hero and the field; nothing of a broken file is used.
pub fn parse_heroes(json: &str) -> Result<Vec<Hero>, HeroError> {
    let Sources { heroes: sources, count } = serde_json::from_str(json)?;
    if count > MAX_HEROES {
        return Err(HeroError::TooMany { count });
    }
    if sources.is_empty() {
        return Err(HeroError::Empty);
    }
    let mut first_of = HashMap::with_capacity(sources.len());
    let mut heroes = Vec::with_capacity(sources.len());
    for (index, source) in sources.into_iter().enumerate() {
        let (hero, place) = import(index, source)?;
        if let Some(first) = first_of.insert(hero.id, index) {
            return Err(HeroError::DuplicateId { hero: place, first });
        }
        heroes.push(hero);
    }
    Ok(heroes)
}

/// The entries of an array, as many as are taken, and how many there are.
struct Sources<'a> {
    heroes: Vec<&'a RawValue>,
    count: usize,
}

impl<'de> Deserialize<'de> for Sources<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Sources<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Sources<'de>, A::Error> {
                let mut heroes = Vec::new();
                while heroes.len() < MAX_HEROES {
                    match entries.next_element()? {
                        Some(hero) => heroes.push(hero),
                        None => return Ok(Sources { count: heroes.len(), heroes }),
                    }
                }
                let mut count = heroes.len();
                while entries.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Sources { heroes, count })
            }
        }

        deserializer.deserialize_seq(Entries)
    }
}

impl From<serde_json::Error> for HeroError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json { reason: reason(&error) }
    }
}

impl Hero {
    /// A hero from its field and value in the `superheros` hash.
    ///
    /// # Errors
    /// A value that is not an object with `powerstats.health` and `powerstats.attack`.
    pub fn from_json(id: HeroId, json: &str) -> Result<Self, HeroError> {
        let place = HeroPlace { id: Some(id), ..HeroPlace::default() };
        let fields = Fields::of(&place, "", serde_json::from_str(json)?)?;
        let stats = Fields::of(&place, "powerstats.", fields.required(&place, "powerstats")?)?;
        let positive = |field| {
            let value = stats.required(&place, field)?;
            match integer(value) {
                Some(number) if number > 0 => Ok(number),
                _ => Err(stats.invalid(&place, field, value, "an integer above 0")),
            }
        };
        Ok(Self { id, attack: positive("attack")?, health: positive("health")?, json: json.to_owned() })
    }
}

/// What the six powerstats, in the order of [`POWERSTATS`], make of a hero: (attack, health).
pub(crate) fn derive(powerstats: [u64; 6]) -> (u64, u64) {
    let [intelligence, strength, speed, durability, power, combat] = powerstats;
    (speed * power * combat, intelligence * strength * durability * 10)
}

fn import(index: usize, source: &RawValue) -> Result<(Hero, HeroPlace), HeroError> {
    let mut place = HeroPlace { index: Some(index), ..HeroPlace::default() };
    let fields = Fields::of(&place, "", source)?;
    // Read before either is required, so that a mistake in one of them is told with the other.
    place.id = fields.get("id").and_then(integer).and_then(|id| u32::try_from(id).ok()).map(HeroId);
    let named = fields.get("name").and_then(text).filter(|name| !name.trim().is_empty());
    place.name = named.map(|name| shortened(&name, SHOWN_CHARS));
    let source_id = fields.required(&place, "id")?;
    let name = fields.required(&place, "name")?;
    let Some(id) = place.id else {
        return Err(fields.invalid(&place, "id", source_id, "a number from 0 to 4294967295"));
    };
    if place.name.is_none() {
        return Err(fields.invalid(&place, "name", name, "a text that is not empty"));
    }

    let stats = Fields::of(&place, "powerstats.", fields.required(&place, "powerstats")?)?;
    let mut values = [0; POWERSTATS.len()];
    for (field, value) in POWERSTATS.into_iter().zip(&mut values) {
        let source = stats.required(&place, field)?;
        *value = powerstat(source)
            .ok_or_else(|| stats.invalid(&place, field, source, "a number from 0 to 1000, or \"null\""))?;
    }
    let (attack, health) = derive(values);

    let mut json = String::with_capacity(source.get().len());
    let mut separator = '{';
    for (field, value) in fields.entries.iter().filter(|(field, _)| field != "id" && field != "response") {
        json.push(separator);
        separator = ',';
        push_text(&mut json, field);
        json.push(':');
        if field == "powerstats" {
            push_powerstats(&mut json, &stats, values, attack, health);
        } else {
            json.push_str(value.get());
        }
    }
    json.push('}');
    Ok((Hero { id, attack, health, json }, place))
}

/// The six and what is derived of them; whatever else the source says of its hero's powers stays behind them, but for
/// derived values that it had already.
fn push_powerstats(json: &mut String, stats: &Fields<'_>, values: [u64; 6], attack: u64, health: u64) {
    let named = POWERSTATS.into_iter().zip(values).chain([("health", health), ("attack", attack)]);
    for (at, (field, value)) in named.enumerate() {
        json.push(if at == 0 { '{' } else { ',' });
        push_text(json, field);
        json.push(':');
        json.push_str(&value.to_string());
    }
    let known = |field: &str| POWERSTATS.contains(&field) || field == "health" || field == "attack";
    for (field, value) in stats.entries.iter().filter(|(field, _)| !known(field)) {
        json.push(',');
        push_text(json, field);
        json.push(':');
        json.push_str(value.get());
    }
    json.push('}');
}

pub(crate) fn push_text(json: &mut String, text: &str) {
    json.push_str(&serde_json::to_string(text).expect("a text is always JSON"));
}

/// A number, or a text of digits only.
fn integer(value: &RawValue) -> Option<u64> {
    let digits = match text(value) {
        Some(text) => text,
        None => value.get().to_owned(),
    };
    if digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn powerstat(value: &RawValue) -> Option<u64> {
    if value.get() == "null" || value.get() == "\"null\"" {
        return Some(1);
    }
    integer(value).filter(|number| *number <= MAX_POWERSTAT).map(|number| number.max(1))
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// An object's fields in their order, which serde_json's own map does not keep.
struct Fields<'a> {
    /// What stands before a field's name in an error.
    path: &'static str,
    entries: Vec<(String, &'a RawValue)>,
}

impl<'a> Fields<'a> {
    fn of(place: &HeroPlace, path: &'static str, object: &'a RawValue) -> Result<Self, HeroError> {
        let Entries(entries) = serde_json::from_str(object.get()).map_err(|error| match path.strip_suffix('.') {
            None => HeroError::NotAnObject { hero: place.clone(), reason: reason(&error) },
            Some(field) => HeroError::Invalid {
                hero: place.clone(),
                field: field.to_owned(),
                value: shortened(object.get(), SHOWN_CHARS),
                expected: "an object",
            },
        })?;
        let mut names = HashSet::with_capacity(entries.len());
        if let Some((field, _)) = entries.iter().find(|(field, _)| !names.insert(field.as_str())) {
            let field = format!("{path}{}", shortened(field, SHOWN_CHARS).escape_debug());
            return Err(HeroError::Repeated { hero: place.clone(), field });
        }
        Ok(Self { path, entries })
    }

    fn get(&self, field: &str) -> Option<&'a RawValue> {
        self.entries.iter().find(|(name, _)| name == field).map(|(_, value)| *value)
    }

    fn required(&self, place: &HeroPlace, field: &str) -> Result<&'a RawValue, HeroError> {
        self.get(field)
            .ok_or_else(|| HeroError::Missing { hero: place.clone(), field: format!("{}{field}", self.path) })
    }

    fn invalid(&self, place: &HeroPlace, field: &str, value: &RawValue, expected: &'static str) -> HeroError {
        HeroError::Invalid {
            hero: place.clone(),
            field: format!("{}{field}", self.path),
            value: shortened(value.get(), SHOWN_CHARS),
            expected,
        }
    }
}

struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// What an error shows of a value or a name that is longer.
const SHOWN_CHARS: usize = 40;
/// What it shows of serde_json's reason, which may have a whole text of the file in it.
const SHOWN_REASON_CHARS: usize = 200;

fn reason(error: &serde_json::Error) -> String {
    shortened(&error.to_string(), SHOWN_REASON_CHARS)
}

/// The start of a text that is too long for an error's line.
fn shortened(value: &str, shown_chars: usize) -> String {
    match value.char_indices().nth(shown_chars) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) const PUBLIC_FORM: &str = r#"[{"response": "success", "id": "7", "name": "Sedge \"Reed\" Warden", "powerstats":
        {"intelligence": "38", "strength": "100", "speed": "null", "durability": "0", "power": "24", "combat": "64"},
        "biography": {"aliases": ["é"]}}]"#;

    #[test]
    fn the_public_form_is_read_and_kept() {
        let heroes = parse_heroes(PUBLIC_FORM).unwrap();
        let json = concat!(
            r#"{"name":"Sedge \"Reed\" Warden","powerstats":{"intelligence":38,"strength":100,"speed":1,"durability":1,"#,
            r#""power":24,"combat":64,"health":38000,"attack":1536},"biography":{"aliases": ["é"]}}"#
        );
        assert_eq!(heroes, [Hero { id: HeroId(7), attack: 1536, health: 38_000, json: json.to_owned() }]);
        assert_eq!(Hero::from_json(HeroId(7), json).unwrap(), heroes[0]);
    }

    #[test]
    fn numbers_and_derived_values_of_an_earlier_import_are_taken() {
        let json = r#"[{"id": 7, "name": "Sedge", "powerstats": {"intelligence": 2, "strength": 3, "speed": 0,
            "durability": 5, "power": 6, "combat": null, "health": 9, "attack": 9, "luck": "x"}}]"#;
        let hero = &parse_heroes(json).unwrap()[0];
        assert_eq!((hero.attack, hero.health), (6, 300));
        let stats = r#""powerstats":{"intelligence":2,"strength":3,"speed":1,"durability":5,"power":6,"combat":1,"health":300,"attack":6,"luck":"x"}"#;
        assert!(hero.json.contains(stats), "{}", hero.json);
    }

    #[test]
    fn more_heroes_than_are_taken_are_counted_and_not_kept() {
        let json = format!("[0{}]", ",0".repeat(20_000));
        let error = parse_heroes(&json).unwrap_err();
        assert!(matches!(error, HeroError::TooMany { count: 20_001 }), "{error}");
        assert_eq!(error.to_string(), "the array holds 20001 heroes, and 10000 are the limit");
    }

    #[test]
    fn a_broken_file_is_refused_with_the_place_and_the_value() {
        let hero = r#"{"id":"7","name":"Sedge","powerstats":{"intelligence":"1","strength":"1","speed":"1","durability":"1","power":"1","combat":"1"}}"#;
        let with = |from: &str, to: &str| format!("[{}]", hero.replacen(from, to, 1));
        let stat = r#"heroes[0] (id 7, "Sedge"): powerstats.speed is "#;
        let table = [
            ("[".to_owned(), "not a JSON array of heroes: EOF while parsing a list at line 1 column 1".to_owned()),
            ("[\n{]".to_owned(), "not a JSON array of heroes: key must be a string at line 2 column 2".to_owned()),
            (
                "{}".to_owned(),
                "not a JSON array of heroes: invalid type: map, expected a sequence at line 1 column 0".to_owned(),
            ),
            ("[]".to_owned(), "the array holds no hero".to_owned()),
            (
                "[3]".to_owned(),
                "heroes[0] is not an object: invalid type: integer `3`, expected an object at line 1 column 1"
                    .to_owned(),
            ),
            (with(r#""id":"7","#, ""), r#"heroes[0] ("Sedge"): id is missing"#.to_owned()),
            (
                with(r#""7""#, r#""seven""#),
                r#"heroes[0] ("Sedge"): id is "seven", expected a number from 0 to 4294967295"#.to_owned(),
            ),
            (
                with(r#""7""#, "-7"),
                r#"heroes[0] ("Sedge"): id is -7, expected a number from 0 to 4294967295"#.to_owned(),
            ),
            (with("Sedge", " "), r#"heroes[0] (id 7): name is " ", expected a text that is not empty"#.to_owned()),
            (with(r#""speed":"1","#, ""), r#"heroes[0] (id 7, "Sedge"): powerstats.speed is missing"#.to_owned()),
            (
                with(r#""speed""#, r#""power":"1","speed""#),
                r#"heroes[0] (id 7, "Sedge"): powerstats.power is there twice"#.to_owned(),
            ),
            (
                with(r#"speed":"1""#, r#"speed":"fast""#),
                format!(r#"{stat}"fast", expected a number from 0 to 1000, or "null""#),
            ),
            (
                with(r#"speed":"1""#, r#"speed":1001"#),
                format!(r#"{stat}1001, expected a number from 0 to 1000, or "null""#),
            ),
            (
                with(r#"speed":"1""#, r#"speed":1.5"#),
                format!(r#"{stat}1.5, expected a number from 0 to 1000, or "null""#),
            ),
            (
                with(r#"speed":"1""#, r#"speed":"""#),
                format!(r#"{stat}"", expected a number from 0 to 1000, or "null""#),
            ),
            (format!("[{hero},{hero}]"), r#"heroes[1] (id 7, "Sedge"): heroes[0] has that id already"#.to_owned()),
        ];
        for (json, expected) in table {
            assert_eq!(parse_heroes(&json).unwrap_err().to_string(), expected, "{json}");
        }
        let no_stats = r#"[{"id":"7","name":"Sedge","powerstats":[1,2]}]"#;
        let expected = r#"heroes[0] (id 7, "Sedge"): powerstats is [1,2], expected an object"#;
        assert_eq!(parse_heroes(no_stats).unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_stored_value_without_its_derived_stats_is_refused() {
        let error = Hero::from_json(HeroId(7), r#"{"powerstats":{"attack":5}}"#).unwrap_err();
        assert_eq!(error.to_string(), "hero (id 7): powerstats.health is missing");
        let error = Hero::from_json(HeroId(7), r#"{"powerstats":{"attack":0,"health":1}}"#).unwrap_err();
        assert_eq!(error.to_string(), "hero (id 7): powerstats.attack is 0, expected an integer above 0");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = parse_heroes(&text);
            let _ = Hero::from_json(HeroId(1), &text);
        }

        #[test]
        fn what_was_imported_reads_back_from_the_store(stats in any::<[u8; 6]>(), id in any::<u32>(), name in "[^ ].*") {
            let source: serde_json::Map<_, _> =
                POWERSTATS.into_iter().zip(stats).map(|(field, value)| (field.to_owned(), value.to_string().into())).collect();
            let json = serde_json::json!([{"id": id.to_string(), "name": name, "powerstats": source}]).to_string();
            if name.trim().is_empty() {
                prop_assert!(parse_heroes(&json).is_err());
            } else {
                let hero = parse_heroes(&json).unwrap().remove(0);
                prop_assert_eq!(Hero::from_json(HeroId(id), &hero.json).unwrap(), hero);
            }
        }
    }
}
