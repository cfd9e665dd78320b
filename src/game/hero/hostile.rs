//! Files that only look like a hero file, or have been tampered with: good heroes, or an error of one line that names its place.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::tests::PUBLIC_FORM;
use super::*;

/// A place with its name, a field, a value, and the words between them; or serde_json's reason.
const MAX_ERROR_CHARS: usize = 400;

/// As many as a file of some megabytes could have; each once took as long as all before it together.
#[test]
fn a_hero_of_a_hundred_thousand_fields_is_read_at_once() {
    let fields = |count: usize| (0..count).map(|n| format!(r#""f{n}":0,"#)).collect::<String>();
    let hero = |more: &str| PUBLIC_FORM.replacen(r#""id""#, &format!(r#"{more}"id""#), 1);
    let heroes = parse_heroes(&hero(&fields(100_000))).unwrap();
    assert!(heroes[0].json.contains(r#""f99999":0"#));
    let repeated = parse_heroes(&hero(&format!(r#"{}"f7":1,"#, fields(100_000)))).unwrap_err().to_string();
    assert_eq!(repeated, "heroes[0]: f7 is there twice");
}

#[test]
fn whatever_is_long_in_a_file_its_error_is_a_line() {
    let long = "é".repeat(100_000);
    let hero = |from: &str, to: &str| PUBLIC_FORM.replacen(from, to, 1);
    for json in [
        format!(r#""{long}""#),
        format!(r#"["{long}"]"#),
        format!(r#"[{{"{long}":1,"{long}":2}}]"#),
        format!("[{}]", "[".repeat(100_000)),
        format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000)),
        hero(r#"\"Reed\" Warden", "powerstats""#, &format!(r#"{long}", "stats""#)),
        hero(r#""38""#, &format!(r#""{long}""#)),
        hero(r#""38""#, &"[".repeat(100_000)),
        hero(r#""38""#, &"9".repeat(100_000)),
        hero(r#""id": "7""#, &format!(r#""id": "{}""#, "9".repeat(100_000))),
    ] {
        let error = parse_heroes(&json).unwrap_err().to_string();
        assert!(error.chars().count() <= MAX_ERROR_CHARS && !error.contains('\n'), "{error}");
    }
}

/// What stands in place of a value: of other types, huge, negative, no number at all.
fn strange() -> impl Strategy<Value = String> {
    const KNOWN: &[&str] = &[
        "null",
        "true",
        "-1",
        "-0",
        "0",
        "1e3",
        "1e999999",
        "0.5",
        "1000",
        "1001",
        "99999999999999999999999999",
        "NaN",
        "Infinity",
        "\"null\"",
        "\"\"",
        "\"-1\"",
        "\"+1\"",
        "\"007\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "[]",
        "{}",
        "[[[[]]]]",
        "{\"a\":{\"a\":1}}",
        "\"\\u0031\"",
        "01",
        "",
    ];
    prop_oneof![
        4 => select(KNOWN).prop_map(str::to_owned),
        1 => any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        1 => any::<i128>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| number.to_string()),
    ]
}

#[derive(Clone, Debug)]
enum Change {
    Value(String),
    Name(&'static str),
    Drop,
    Twice,
}

fn changes() -> impl Strategy<Value = Vec<(Index, Change)>> {
    let name = select(&["id", "name", "powerstats", "speed", "health", "response", "", "other"][..]);
    let change = prop_oneof![
        3 => strange().prop_map(Change::Value),
        1 => name.prop_map(Change::Name),
        1 => Just(Change::Drop),
        1 => Just(Change::Twice),
    ];
    prop::collection::vec((any::<Index>(), change), 0..3)
}

fn object(fields: impl IntoIterator<Item = (String, String)>) -> String {
    let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
    format!("{{{}}}", fields.join(","))
}

fn with(mut fields: Vec<(String, String)>, changes: Vec<(Index, Change)>) -> Vec<(String, String)> {
    for (at, change) in changes {
        if fields.is_empty() {
            break;
        }
        let at = at.index(fields.len());
        match change {
            Change::Value(value) => fields[at].1 = value,
            Change::Name(name) => fields[at].0 = name.to_owned(),
            Change::Drop => drop(fields.remove(at)),
            Change::Twice => fields.push(fields[at].clone()),
        }
    }
    fields
}

prop_compose! {
    /// A hero of the file's shape, changed here and there.
    fn changed_hero()(id in 0..3u32, of_hero in changes(), of_stats in changes()) -> String {
        let owned = |fields: &[(&str, &str)]| fields.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let stats = POWERSTATS.into_iter().map(|stat| (stat.to_owned(), r#""50""#.to_owned())).collect();
        let stats = with(stats, of_stats);
        let (id, stats) = (format!("\"{id}\""), object(stats));
        let fields: Vec<(String, String)> = owned(&[("response", r#""success""#), ("id", &id), ("name", r#""Sedge""#),
            ("powerstats", &stats), ("image", r#"{"url":"x"}"#)]);
        object(with(fields, of_hero))
    }
}

proptest! {
    #[test]
    fn a_changed_file_gives_good_heroes_or_an_error_that_names_its_place(
        heroes in prop::collection::vec(changed_hero(), 0..4),
        damage in prop::option::weighted(0.1, (any::<Index>(), any::<char>())),
    ) {
        let mut json = format!("[{}]", heroes.join(","));
        if let Some((at, with)) = damage {
            let at = json.floor_char_boundary(at.index(json.len()));
            json.insert(at, with);
        }
        match parse_heroes(&json) {
            Ok(heroes) => {
                let ids: HashSet<_> = heroes.iter().map(|hero| hero.id).collect();
                prop_assert_eq!(ids.len(), heroes.len());
                for hero in heroes {
                    prop_assert!(hero.attack > 0 && hero.health > 0);
                    prop_assert_eq!(Hero::from_json(hero.id, &hero.json).unwrap(), hero);
                }
            }
            Err(error) => {
                let text = error.to_string();
                prop_assert!(text.chars().count() <= MAX_ERROR_CHARS, "{text}");
                let is_of_the_file = matches!(error, HeroError::Json { .. } | HeroError::Empty);
                prop_assert!(text.starts_with("heroes[") || is_of_the_file, "{text}");
            }
        }
    }
}
