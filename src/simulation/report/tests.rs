use superhero_verify::{PartitionSummary, Rows, Span, Standing};

use super::*;

const PRODUCER: u128 = 7;

fn played() -> Played {
    Played {
        stopped: false,
        players: Summary { players: 4, finished: 4, seats_completed: 8, ..Summary::default() },
        planned: Some(4),
        written_after: Duration::from_secs(5),
        games_completed: 3,
        counters: Counters { emitted: 100, acknowledged: 100, ..Counters::default() },
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
    let played = Span { events: 98, micros: Some((1_000_000, 3_000_000)) };
    let timed_out = Span { events: 2, micros: Some((8_000_000, 8_000_000)) };
    let figures = Figures {
        rows: 100,
        played,
        timed_out,
        games: 3,
        heroes: heroes.map(standing).into(),
        ..Figures::new(PRODUCER)
    };
    Verification {
        rows: Rows { raw: 100, ..Rows::default() },
        games: 3,
        figures: Some(figures),
        ..Verification::default()
    }
}

fn with_figures(change: impl FnOnce(&mut Figures)) -> Verification {
    let mut found = found();
    found.figures.as_mut().map(change);
    found
}

fn report(played: Played, found: &Verification) -> Report {
    Report::new(&SimulationConfig::default(), "data/run".into(), played, found)
}

#[test]
fn a_run_whose_events_are_all_in_the_files_is_verified() {
    let report = report(played(), &found());
    assert!(report.verified, "{:?}", report.findings);
    let text = report.to_string();
    for said in [
        "Every event is in the files, once.",
        "100 emitted, 100 acknowledged, 100 written (49/s)",
        "3 of 4 completed in 2.00 s",
    ] {
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
            with_figures(|figures| figures.rows = 99),
            "100 events were acknowledged, but 99 stand in the files",
        ),
        (played(), with_figures(|figures| figures.games = 2), "3 games were completed, but 2 stand in the tables"),
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
fn a_run_without_a_game_says_so_first_and_is_not_verified() {
    let found = with_figures(|figures| {
        figures.games = 0;
        figures.played.micros = None;
    });
    for stopped in [false, true] {
        let report = report(Played { games_completed: 0, stopped, ..played() }, &found);
        assert!(!report.verified);
        assert!(report.to_string().starts_with("NO GAME WAS PLAYED\n  no game was played to its end\n"), "{report}");
        assert_eq!((report.games.per_second, report.events.per_second), (None, None));
    }
}

#[test]
fn those_who_wait_in_vain_do_not_lower_the_rates() {
    let players = Summary { seats_timed_out: 2, ..played().players };
    let report = report(Played { players, ..played() }, &found());
    assert_eq!((report.used.playing_seconds, report.used.waiting_seconds), (2.0, 5.0));
    assert_eq!((report.games.per_second, report.events.per_second), (Some(1.5), Some(49.0)));
    let said =
        "3 of 4 completed in 2.00 s (1.5/s), 3 in the tables; then 2 players waited in vain for others, for 5.00 s";
    assert!(report.to_string().contains(said), "{report}");
}

#[test]
fn what_is_of_other_runs_is_told_apart() {
    let of_others = Rows { raw: 250, ..Rows::default() };
    let found = Verification { games: 9, rows: of_others, files: 7, ..found() };
    let report = report(played(), &found);
    assert!(report.verified && report.games.in_tables == 3 && report.files.with_others, "{report}");
    assert!(report.to_string().contains("7 files, 0 B in the folder, others' rows"), "{report}");
}

#[test]
fn the_board_is_by_wins_and_then_by_damage() {
    let board: Vec<_> = report(played(), &found()).winners.into_iter().map(|winner| winner.hero).collect();
    assert_eq!(board, ["hero 3", "One", "hero 2"]);
}
