//! The built-in roster, used when no other has been loaded.

use crate::hero::{POWERSTATS, derive, push_text};
use crate::{Hero, HeroId};

/// At least 120 heroes of our own whose duels last some 3 to 30 attacks, by ascending id.
pub fn built_in_roster() -> Vec<Hero> {
    (1..).zip(ROSTER).map(|(id, (name, powerstats))| hero(HeroId(id), name, powerstats)).collect()
}

fn hero(id: HeroId, name: &str, powerstats: [u64; POWERSTATS.len()]) -> Hero {
    let (attack, health) = derive(powerstats);
    let mut json = String::from(r#"{"name":"#);
    push_text(&mut json, name);
    json.push_str(r#","powerstats":{"#);
    for (field, value) in POWERSTATS.into_iter().zip(powerstats) {
        json.push_str(&format!(r#""{field}":{value},"#));
    }
    json.push_str(&format!(r#""health":{health},"attack":{attack}}}}}"#));
    Hero { id, attack, health, json }
}

/// Name and intelligence, strength, speed, durability, power, combat; a hero's id is its line's number.
///
/// The three that make the health and the three that make the attack are spread as wide as they may be while their products
/// stay within a factor of five, which is what keeps a duel between any two of them neither a single blow nor a siege.
const ROSTER: [(&str, [u64; POWERSTATS.len()]); 140] = [
    ("Alder Quern", [82, 21, 82, 46, 76, 40]),
    ("Amber Theodolite", [82, 24, 45, 30, 66, 34]),
    ("Anvil Plover", [99, 41, 30, 25, 98, 71]),
    ("Arroyo Signal", [48, 23, 90, 56, 37, 60]),
    ("Ashlar Vey", [79, 47, 28, 31, 72, 82]),
    ("Auroch Minder", [77, 26, 84, 94, 53, 37]),
    ("Barrow Lantern", [72, 15, 48, 96, 78, 27]),
    ("Basalt Cantor", [66, 86, 76, 15, 24, 62]),
    ("Beacon Tamsin", [22, 98, 49, 25, 73, 34]),
    ("Bitterwort", [25, 82, 53, 98, 51, 38]),
    ("Bramble Ostler", [59, 58, 77, 47, 40, 83]),
    ("Brass Cormorant", [99, 49, 92, 14, 32, 51]),
    ("Brine Cartographer", [19, 81, 22, 77, 84, 77]),
    ("Calder Moss", [18, 71, 51, 51, 70, 69]),
    ("Captain Isobar", [45, 17, 81, 92, 61, 21]),
    ("Carrack Nell", [81, 86, 87, 14, 39, 32]),
    ("Chalk Pilgrim", [53, 49, 83, 68, 97, 46]),
    ("Cinder Almanac", [78, 74, 69, 12, 19, 97]),
    ("Cirrus Dane", [60, 64, 44, 17, 35, 90]),
    ("Clay Regent", [94, 26, 94, 59, 86, 37]),
    ("Cobalt Heron", [46, 77, 75, 20, 83, 60]),
    ("Coppice Jack", [98, 88, 93, 20, 70, 56]),
    ("Copper Undertow", [42, 84, 34, 23, 84, 43]),
    ("Corrie Strand", [75, 43, 72, 54, 57, 37]),
    ("Dapple Marshal", [66, 63, 96, 23, 16, 80]),
    ("Delta Ferrier", [95, 92, 70, 19, 40, 71]),
    ("Doctor Meniscus", [57, 40, 57, 52, 76, 54]),
    ("Dray Holloway", [23, 77, 75, 78, 72, 25]),
    ("Drumlin", [17, 63, 78, 75, 36, 37]),
    ("Dune Archivist", [21, 63, 78, 62, 18, 83]),
    ("Dusk Apiary", [25, 93, 60, 24, 80, 79]),
    ("Eddy Fairlead", [44, 46, 72, 30, 43, 76]),
    ("Eider Captain", [67, 47, 49, 20, 82, 54]),
    ("Ember Tollkeeper", [33, 47, 26, 35, 94, 82]),
    ("Ermine Proctor", [92, 14, 87, 43, 65, 63]),
    ("Esker Vane", [74, 26, 40, 41, 98, 83]),
    ("Fallow Knight-Errant", [31, 47, 50, 45, 92, 21]),
    ("Fathom Weaver", [36, 24, 55, 83, 64, 54]),
    ("Feldspar Joan", [84, 14, 74, 92, 21, 92]),
    ("Fenland Drover", [40, 41, 54, 87, 60, 50]),
    ("Ferrous Lark", [31, 35, 33, 67, 46, 98]),
    ("Firth Watcher", [99, 13, 50, 46, 66, 30]),
    ("Flint Ambassador", [39, 94, 27, 21, 56, 100]),
    ("Floe Rider", [24, 48, 39, 61, 45, 74]),
    ("Foundry Wren", [82, 37, 67, 71, 63, 78]),
    ("Gabbro", [36, 96, 44, 30, 76, 84]),
    ("Galena Sharp", [28, 64, 36, 82, 95, 59]),
    ("Gantry Voss", [69, 47, 51, 44, 48, 49]),
    ("Garnet Wayfarer", [98, 19, 45, 82, 52, 41]),
    ("Gale Notary", [41, 63, 42, 22, 34, 79]),
    ("Gimbal", [26, 67, 87, 62, 55, 22]),
    ("Glasswort", [74, 68, 62, 35, 43, 56]),
    ("Gorse Halberd", [37, 33, 68, 45, 32, 50]),
    ("Granary Ghost", [22, 52, 37, 75, 54, 54]),
    ("Gravel Saint", [69, 84, 24, 27, 77, 74]),
    ("Gyre Fletcher", [76, 18, 64, 40, 88, 57]),
    ("Halyard Quinn", [52, 61, 26, 39, 84, 61]),
    ("Harbour Basilisk", [19, 97, 90, 46, 88, 21]),
    ("Harrow Teal", [31, 65, 98, 54, 34, 32]),
    ("Hawser Brandt", [18, 91, 80, 78, 89, 16]),
    ("Heath Castellan", [51, 83, 86, 18, 70, 22]),
    ("Hedge Surveyor", [19, 52, 32, 57, 79, 58]),
    ("Hollin Roe", [84, 75, 40, 32, 68, 55]),
    ("Hornbeam", [86, 15, 58, 66, 51, 33]),
    ("Inkwell Corsair", [96, 18, 45, 57, 39, 76]),
    ("Iron Curlew", [70, 42, 90, 24, 47, 70]),
    ("Ivory Sextant", [59, 30, 83, 88, 39, 85]),
    ("Jetty Maroon", [95, 73, 98, 16, 55, 38]),
    ("Juniper Lodestar", [28, 73, 46, 63, 64, 66]),
    ("Kelp Magistrate", [16, 93, 64, 86, 48, 98]),
    ("Kestrel Ombud", [56, 95, 34, 29, 46, 63]),
    ("Kiln Mother", [62, 16, 17, 63, 92, 72]),
    ("Knoll Warden", [75, 66, 61, 39, 82, 33]),
    ("Lacquer Fox", [49, 93, 97, 49, 25, 63]),
    ("Lady Barometer", [54, 35, 72, 44, 45, 40]),
    ("Larch Ironmonger", [25, 91, 51, 63, 41, 65]),
    ("Lathe Hollis", [85, 87, 42, 17, 48, 67]),
    ("Levee Sergeant", [30, 90, 93, 21, 50, 72]),
    ("Lichen Oracle", [94, 27, 71, 22, 53, 32]),
    ("Limpet Vasquez", [47, 25, 81, 99, 46, 37]),
    ("Linden Strake", [26, 85, 32, 53, 43, 99]),
    ("Loam Giant", [17, 73, 66, 42, 39, 68]),
    ("Loess", [23, 80, 68, 29, 37, 47]),
    ("Madder Quill", [36, 34, 45, 61, 55, 39]),
    ("Marl Pikeman", [32, 70, 42, 55, 74, 42]),
    ("Marram Scout", [78, 30, 98, 87, 58, 20]),
    ("Mica Duchess", [24, 88, 47, 71, 41, 60]),
    ("Millrace", [22, 85, 24, 31, 99, 88]),
    ("Mistral Porter", [50, 56, 94, 38, 95, 19]),
    ("Moraine Abbot", [91, 24, 81, 46, 93, 21]),
    ("Mortise", [90, 27, 55, 53, 75, 59]),
    ("Nacre Sentinel", [62, 28, 83, 43, 64, 35]),
    ("Oast Keeper", [87, 42, 51, 22, 92, 41]),
    ("Ochre Falconer", [64, 30, 68, 76, 64, 63]),
    ("Osier Blade", [53, 70, 40, 60, 69, 37]),
    ("Oxbow Hannah", [92, 24, 89, 45, 57, 42]),
    ("Peat Colossus", [42, 85, 94, 20, 20, 73]),
    ("Pewter Swift", [36, 45, 59, 49, 24, 99]),
    ("Pinion Drake", [74, 40, 55, 66, 30, 83]),
    ("Plumb Line Petra", [28, 97, 67, 64, 91, 22]),
    ("Polder Guardian", [46, 46, 72, 31, 28, 77]),
    ("Pumice Friar", [59, 65, 98, 15, 38, 37]),
    ("Quarry Lotte", [60, 59, 90, 17, 27, 72]),
    ("Quayside Phantom", [31, 81, 86, 55, 31, 46]),
    ("Quicklime", [70, 69, 28, 21, 67, 51]),
    ("Rampion", [63, 46, 55, 20, 50, 80]),
    ("Reed Ballast", [88, 60, 42, 27, 26, 99]),
    ("Ridge Tanager", [83, 14, 44, 68, 27, 89]),
    ("Rime Constable", [72, 31, 76, 83, 38, 50]),
    ("Rook Ferrante", [87, 32, 88, 74, 20, 75]),
    ("Rushlight", [22, 34, 25, 79, 67, 92]),
    ("Saffron Bulwark", [59, 62, 71, 48, 95, 37]),
    ("Salt Chandler", [40, 30, 29, 51, 40, 98]),
    ("Sedge Cavalier", [48, 26, 94, 78, 93, 25]),
    ("Selvage", [56, 20, 61, 58, 48, 63]),
    ("Sergeant Tephra", [57, 14, 40, 70, 82, 60]),
    ("Shale Courier", [66, 41, 93, 30, 63, 27]),
    ("Sheaf Baroness", [34, 30, 44, 90, 61, 56]),
    ("Skerry Piper", [31, 55, 67, 76, 92, 68]),
    ("Slate Bailiff", [35, 72, 90, 48, 13, 85]),
    ("Sluice Marten", [45, 39, 90, 48, 20, 88]),
    ("Sorrel Arbiter", [32, 69, 61, 61, 31, 61]),
    ("Spindle Hark", [17, 80, 50, 46, 53, 46]),
    ("Stoat Navigator", [27, 95, 97, 51, 57, 72]),
    ("Tallow Prince", [38, 45, 59, 34, 94, 48]),
    ("Tarn Sibyl", [64, 18, 43, 81, 54, 66]),
    ("Tern Bombardier", [89, 20, 65, 71, 76, 20]),
    ("Thicket Consul", [35, 37, 54, 50, 51, 97]),
    ("Thistle Gunnar", [58, 18, 85, 52, 54, 30]),
    ("Tidal Verger", [12, 59, 98, 99, 35, 33]),
    ("Tinder Provost", [17, 90, 67, 45, 65, 39]),
    ("Trellis Kane", [14, 53, 54, 86, 53, 99]),
    ("Umber Sapper", [81, 24, 55, 75, 74, 68]),
    ("Vellum Ranger", [46, 43, 23, 83, 60, 98]),
    ("Verdigris Tom", [93, 18, 92, 84, 48, 38]),
    ("Wharf Seraph", [23, 28, 24, 95, 97, 62]),
    ("Whin Matriarch", [64, 57, 98, 17, 14, 97]),
    ("Willow Dragoon", [19, 92, 98, 79, 34, 94]),
    ("Windrow Ace", [84, 20, 74, 78, 24, 69]),
    ("Yarrow Steward", [77, 40, 64, 33, 29, 72]),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use uuid::Uuid;

    use super::*;
    use crate::{Duel, Fighter, Limits, UserToken};

    #[test]
    fn heroes_are_distinct_and_keep_to_the_scale() {
        let roster = built_in_roster();
        assert!(roster.len() >= 120);
        assert_eq!(ROSTER.iter().map(|(name, _)| name).collect::<BTreeSet<_>>().len(), roster.len());
        assert!(ROSTER.iter().flat_map(|(_, powerstats)| powerstats).all(|value| (1..=100).contains(value)));
        for hero in &roster {
            assert_eq!(&Hero::from_json(hero.id, &hero.json).unwrap(), hero);
        }
    }

    #[test]
    fn duels_of_any_two_last_some_3_to_30_attacks() {
        let roster = built_in_roster();
        let mut attacks = Vec::new();
        for first in &roster {
            attacks
                .extend(roster.iter().filter(|second| second.id != first.id).map(|second| attacks_of(first, second)));
        }
        attacks.sort_unstable();
        let quantile = |percent: usize| attacks[attacks.len() * percent / 100];
        let (low, median, high) = (quantile(5), quantile(50), quantile(95));
        assert!(low >= 3 && (7..=13).contains(&median) && high <= 30, "5 % {low}, median {median}, 95 % {high}");
    }

    /// How many attacks it takes when `first` begins.
    fn attacks_of(first: &Hero, second: &Hero) -> u32 {
        let [one, two] = [1, 2].map(|token| UserToken::new(Uuid::from_u128(token)));
        let fighter = |hero: &Hero| Fighter { hero: hero.id, attack: hero.attack, health: hero.health };
        let mut duel = Duel::new(BTreeMap::from([(one, fighter(first)), (two, fighter(second))]));
        let limits = Limits::default();
        while let Some(user) = duel.on_turn(limits) {
            duel.attack(user, if user == one { two } else { one }, limits).unwrap();
        }
        assert_eq!(duel.order().len(), 1, "ended by its round cap");
        duel.moves()
    }
}
