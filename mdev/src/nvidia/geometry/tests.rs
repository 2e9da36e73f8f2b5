use super::*;
use MigClass::{Four, One, OneDouble, Seven, Three, Two};
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::LazyLock};
use vgpud_config::catalogue::Catalogue;

fn geometry(slices: u8) -> &'static Geometry {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::load().unwrap());
    CATALOGUE.geometry(slices).unwrap()
}

fn plain(class: MigClass, start: u8) -> GpuInstance {
    GpuInstance { class, attribute: None, start }
}

fn layout<'a>(geometry: &'a Geometry, instances: &[(MigClass, u8)]) -> Layout<'a> {
    let instances: Vec<_> = instances.iter().map(|(class, start)| plain(*class, *start)).collect();
    Layout::new(geometry, &instances).unwrap()
}

/// The instances that are there, what is placed, and where it should begin.
type Best = (&'static [(MigClass, u8)], MigClass, u8);

/// Places one after the other, each at its best start.
fn place<'a>(geometry: &'a Geometry, classes: &[MigClass]) -> Result<Vec<u8>, Blocked> {
    let mut layout: Layout<'a> = Layout::new(geometry, &[]).unwrap();
    let each = classes.iter().map(|class| {
        let start = layout.best_start(*class, None)?;
        layout.add(plain(*class, start)).unwrap();
        Ok(start)
    });
    each.collect()
}

/// The counts of NVIDIA/mig-parted's configurations `all-…`, and of the MIG guide.
#[test]
fn a_card_of_one_size_holds_as_many_as_mig_parted_makes() {
    let cases = [
        (7, vec![(One, 7), (OneDouble, 4), (Two, 3), (Three, 2), (Four, 1), (Seven, 1)]),
        (4, vec![(One, 4), (Two, 2), (Four, 1)]),
    ];
    for (slices, counts) in cases {
        let geometry = geometry(slices);
        let empty = layout(geometry, &[]);
        let all = empty.placeable().into_iter().filter(|placeable| placeable.profile.attribute.is_none());
        let more: Vec<_> = all.map(|placeable| (placeable.profile.class, placeable.more)).collect();
        assert_eq!(more, counts, "{slices}");
        for (class, count) in counts {
            let classes = vec![class; usize::from(count)];
            assert_eq!(place(geometry, &classes).unwrap().len(), usize::from(count), "{class}");
            assert!(place(geometry, &[classes, vec![class]].concat()).is_err(), "{class}");
        }
    }
}

#[test]
fn the_best_start_keeps_the_largest_shapes_free() {
    let seven = geometry(7);
    let cases: [Best; 15] = [
        (&[], One, 6),
        (&[], OneDouble, 6),
        (&[], Two, 4),
        // Four slices of compute fit at 0 alone.
        (&[], Three, 4),
        (&[], Four, 0),
        (&[], Seven, 0),
        (&[(One, 6)], One, 5),
        (&[(One, 6)], Two, 4),
        (&[(Three, 4)], Three, 0),
        (&[(Three, 4)], One, 3),
        // At 6 more small ones would fit, and no 3g.
        (&[(Two, 0)], One, 3),
        (&[(One, 1)], OneDouble, 2),
        (&[(Three, 4), (One, 3)], One, 2),
        (&[(Four, 0)], Two, 4),
        (&[(Four, 0), (Two, 4)], OneDouble, 6),
    ];
    for (instances, class, start) in cases {
        assert_eq!(layout(seven, instances).best_start(class, None), Ok(start), "{instances:?} {class}");
    }
    let four = geometry(4);
    let cases: [Best; 4] = [(&[], One, 3), (&[], Two, 2), (&[(One, 3)], One, 2), (&[(One, 3)], Two, 0)];
    for (instances, class, start) in cases {
        assert_eq!(layout(four, instances).best_start(class, None), Ok(start), "{instances:?} {class}");
    }
}

/// `all-balanced` of NVIDIA/mig-parted, the largest first.
#[test]
fn balanced_layouts_fit() {
    assert_eq!(place(geometry(7), &[Three, Two, One, One]), Ok(vec![4, 2, 1, 0]));
    assert_eq!(place(geometry(4), &[Two, One, One]), Ok(vec![2, 1, 0]));
    assert_eq!(place(geometry(7), &[Four, Three]), Ok(vec![0, 4]));
    assert_eq!(place(geometry(7), &[One, Two, Four]), Ok(vec![6, 4, 0]), "the smallest first");
}

#[test]
fn what_can_be_placed_and_where() {
    let seven = geometry(7);
    let shown = |instances: &[(MigClass, u8)]| -> Vec<String> {
        let placeable = layout(seven, instances).placeable();
        let text = |placeable: &Placeable<'_>| {
            let (class, attribute) = (placeable.profile.class, placeable.profile.attribute);
            let starts: Vec<_> = placeable.starts.iter().map(u8::to_string).collect();
            format!("{} {}x {}", ProfileText { class, attribute }, placeable.more, starts.join(""))
        };
        placeable.iter().map(text).collect()
    };
    assert_eq!(
        shown(&[]),
        [
            "1g 7x 0123456",
            "1g+me 1x 0123456",
            "1g with double memory 4x 0246",
            "2g 3x 024",
            "3g 2x 04",
            "4g 1x 0",
            "7g 1x 0"
        ]
    );
    assert_eq!(
        shown(&[(Three, 4), (One, 3)]),
        ["1g 3x 012", "1g+me 1x 012", "1g with double memory 1x 0", "2g 1x 0"]
    );
    assert_eq!(shown(&[(Four, 0), (Three, 4)]), [""; 0]);
    assert_eq!(shown(&[(Three, 0), (Two, 4), (One, 6)]), [""; 0], "the eighth memory slice goes to no 1g");
}

#[test]
fn what_is_in_the_way_is_said() {
    let seven = geometry(7);
    let blocked = |instances: &[(MigClass, u8)], class: MigClass| {
        layout(seven, instances).best_start(class, None).unwrap_err().to_string()
    };
    assert_eq!(
        blocked(&[(One, 6), (Two, 2), (One, 1)], Three),
        "There is no room for 3g: at 0 is 1g at 1, at 4 is 1g at 6"
    );
    assert_eq!(blocked(&[(Three, 0), (Three, 4)], Three), "The card has 2 of 3g already, which is the most");
    assert_eq!(blocked(&[(One, 3)], Seven), "There is no room for 7g: at 0 is 1g at 3");
    let four = geometry(4);
    let empty = layout(four, &[]);
    assert_eq!(
        empty.best_start(Three, None).unwrap_err().to_string(),
        "A card of 4 slices has no instances of 3g"
    );
    let media = GpuInstance { class: One, attribute: Some(MigAttribute::MeAll), start: 2 };
    let with_media = Layout::new(four, &[media]).unwrap();
    assert_eq!(
        with_media.starts(Two, Some(MigAttribute::Me)).unwrap_err().to_string(),
        "Only one instance can have the extra media engines, and 1g+me.all at 2 has them; 2g+me wants them too"
    );
    assert_eq!(with_media.starts(Two, Some(MigAttribute::Gfx)), Ok(vec![0]));
}

#[test]
fn instances_that_cannot_be_together_are_refused() {
    let seven = geometry(7);
    let told = |instances: &[GpuInstance]| Layout::new(seven, instances).unwrap_err().to_string();
    assert_eq!(told(&[plain(Two, 4), plain(Three, 4)]), "The instances 2g at 4 and 3g at 4 overlap");
    assert_eq!(told(&[plain(Two, 1)]), "A card of 7 slices has no instance 2g at 1");
    let graphics = GpuInstance { class: One, attribute: Some(MigAttribute::Gfx), start: 0 };
    assert_eq!(told(&[graphics]), "A card of 7 slices has no instance 1g+gfx at 0");
}

/// Every layout to which nothing can be added, counted: on seven slices six ways for the first four
/// (4g, 3g, 2g 2g, 2g 1g 1g, 1g 1g 2g, 1g 1g 1g 1g), three for the rest, and 7g.
#[test]
fn the_full_layouts_without_double_memory_are_nineteen() {
    let full = |slices: u8| {
        let geometry = geometry(slices);
        let mut full = BTreeSet::new();
        let mut open = vec![vec![]];
        while let Some(instances) = open.pop() {
            let placeable = layout(geometry, &instances).placeable();
            let next: Vec<_> = placeable
                .iter()
                .filter(|p| p.profile.attribute.is_none() && p.profile.class != OneDouble)
                .flat_map(|p| p.starts.iter().map(|start| (p.profile.class, *start)))
                .collect();
            if next.is_empty() {
                full.insert(instances.clone());
            }
            // In order of place, each layout is met once.
            let behind = instances.iter().map(|(_, start)| *start).max();
            for (class, start) in next {
                if behind.is_none_or(|behind| start > behind) {
                    open.push([instances.clone(), vec![(class, start)]].concat());
                }
            }
        }
        full.len()
    };
    assert_eq!(full(7), 6 * 3 + 1);
    // 4g; and two halves, each 2g or 1g 1g.
    assert_eq!(full(4), 1 + 2 * 2);
}

proptest! {
    /// Whatever is placed and however: the best start is one of the starts, nothing overlaps, and the
    /// compute of the instances is no more than the card's.
    #[test]
    fn placing_never_breaks_a_card(slices in prop::sample::select(vec![4_u8, 7]), wanted in prop::collection::vec((0..12_usize, any::<bool>(), 0..7_usize), 0..12)) {
        let geometry = geometry(slices);
        let mut layout = Layout::new(geometry, &[]).unwrap();
        let mut instances = Vec::new();
        for (profile, best, other) in wanted {
            let profile = &geometry.profiles[profile % geometry.profiles.len()];
            let (class, attribute) = (profile.class, profile.attribute);
            let Ok(starts) = layout.starts(class, attribute) else {
                prop_assert!(layout.best_start(class, attribute).is_err());
                continue;
            };
            let best_start = layout.best_start(class, attribute).unwrap();
            prop_assert!(starts.contains(&best_start));
            let start = if best { best_start } else { starts[other % starts.len()] };
            layout.add(GpuInstance { class, attribute, start }).unwrap();
            instances.push(GpuInstance { class, attribute, start });
        }
        let mut used = BTreeSet::new();
        for instance in &instances {
            let length = geometry.profile(instance.class, instance.attribute).unwrap().memory_slices;
            prop_assert!((instance.start..instance.start + length).all(|slice| used.insert(slice)));
        }
        prop_assert!(used.iter().all(|slice| *slice < geometry.memory_slices));
        let compute: u8 = instances.iter().map(|instance| instance.class.slices()).sum();
        prop_assert!(compute <= slices, "{:?}", instances);
        prop_assert!(Layout::new(geometry, &instances).is_ok());
    }
}
