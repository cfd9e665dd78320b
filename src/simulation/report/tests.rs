use superhero_verify::{PartitionSummary, Standing};

use super::*;

const PRODUCER: u128 = 7;

fn played() -> Played {
    Played {
        stopped: false,
        players: Summary { players: 4, finished: 4, games_completed: 8, ..Summary::default() },
        lasted: Duration::from_secs(2),
        written_after: Duration::from_secs(5),
        games_completed: 3,
        counters: Counters { emitted: 100, acknowledged: 100, ..Counters::default() },
        producer: Some(PRODUCER),
        lag: Some(0),
        caught_up: Duration::from_secs(1),
        history: History::default(),
        hero_names: BTreeMap::from([(HeroId(1), "One".to_owned())]),
        findings: Vec::new(),
    }
}

fn found() -> Verification {
    let heroes = [(1, 2, 9), (2, 1, 30), (3, 2, 10)];
    let standing = |(id, wins, damage_delivered)| (HeroId(id), Standing { games: 3, wins, damage_delivered });
    Verification {
        games: 3,
        producers: BTreeMap::from([(PRODUCER, 100), (8, 5)]),
        heroes: heroes.map(standing).into(),
        ..Verification::default()
    }
}

fn report(played: Played, found: &Verification) -> Report {
    Report::new(&SimulationConfig::default(), "data/run".into(), played, found)
}

#[test]
fn a_run_whose_events_are_all_in_the_files_is_verified() {
    let report = report(played(), &found());
    assert!(report.verified, "{:?}", report.findings);
    let text = report.to_string();
    for said in
        ["Every event is in the files, once.", "100 emitted, 100 acknowledged, 100 written (50/s)", "3 completed"]
    {
        assert!(text.contains(said), "{text}");
    }
}

#[test]
fn whatever_is_wrong_is_found() {
    let counters = |counters: Counters| Played { counters, ..played() };
    let all = Counters { emitted: 100, acknowledged: 100, ..Counters::default() };
    let expired = PartitionSummary { expired: 12, ..PartitionSummary::default() };
    for (played, found, said) in [
        (counters(Counters { emitted: 101, ..all }), found(), "100 of 101 events were acknowledged"),
        (counters(Counters { dropped: 1, emitted: 101, ..all }), found(), "1 events were dropped"),
        (
            played(),
            Verification { producers: BTreeMap::from([(PRODUCER, 99)]), ..found() },
            "100 events were acknowledged, but 99 stand in the files",
        ),
        (played(), Verification { games: 2, ..found() }, "3 games were completed, but 2 stand in the tables"),
        (
            played(),
            Verification { partitions: vec![expired], ..found() },
            "12 records went from the embedded broker's memory",
        ),
        (Played { lag: Some(6), ..played() }, found(), "the workers left 6 records"),
        (Played { findings: vec!["a worker failed: it".to_owned()], ..played() }, found(), "a worker failed: it"),
        (Played { players: Summary { failed: 2, ..Summary::default() }, ..played() }, found(), "2 players gave up"),
    ] {
        let report = report(played, &found);
        assert!(!report.verified);
        assert!(report.findings.iter().any(|finding| finding.contains(said)), "{said}: {:?}", report.findings);
        assert!(report.to_string().contains("NOT VERIFIED") && report.to_string().contains(said), "{report}");
    }
}

#[test]
fn the_board_is_by_wins_and_then_by_damage() {
    let board: Vec<_> = report(played(), &found()).winners.into_iter().map(|winner| winner.hero).collect();
    assert_eq!(board, ["hero 3", "One", "hero 2"]);
}
