//! The ledger refuses a write: vgpud ends, and nothing is done that is not on record.

use super::bench::{Bench, MDEV, SRIOV, machine};
use crate::{
    daemon::{
        StartError,
        executor::{Done, EffectError, Executor, GpuSeen, HostSeen},
    },
    engine::{Effect, SliceId, Target},
    ledger::{self, Ledger},
};
use rusqlite::Connection;
use std::{
    collections::BTreeSet,
    io::Write as _,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use vgpud_config::PciAddress;
use vgpud_mdev as mdev;
use vgpud_vmm::{device::process::Preflight, preflight::Level};

/// An executor that looks into the file before each effect.
#[derive(Debug)]
struct Witness {
    inner: Arc<dyn Executor>,
    ledger: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    effects: usize,
    kinds: BTreeSet<&'static str>,
    not_on_record: Vec<String>,
}

impl Executor for Witness {
    fn run(&self, effect: &Effect) -> Result<Done, EffectError> {
        let open = Ledger::open_to_read(&self.ledger).and_then(|ledger| ledger.open_intents());
        let recorded = open.is_ok_and(|open| open.iter().any(|intent| intent.effect == *effect));
        {
            let mut seen = self.seen.lock().unwrap();
            seen.effects += 1;
            seen.kinds.insert(effect.word());
            if !recorded {
                seen.not_on_record.push(effect.to_string());
            }
        }
        self.inner.run(effect)
    }

    fn verify(&self, target: &Target, level: Level) -> Result<Preflight, EffectError> {
        self.inner.verify(target, level)
    }

    fn look(&self, gpu: PciAddress) -> Result<Option<GpuSeen>, mdev::Error> {
        self.inner.look(gpu)
    }

    fn look_at_all(&self, at_work: &[PciAddress]) -> Result<HostSeen, mdev::Error> {
        self.inner.look_at_all(at_work)
    }

    fn published(&self) -> Result<Vec<SliceId>, EffectError> {
        self.inner.published()
    }

    fn waited_for_others(&self, gpu: PciAddress) -> Duration {
        self.inner.waited_for_others(gpu)
    }
}

async fn started(bench: &mut Bench) -> Arc<Witness> {
    let ledger = bench.folder.path().join(ledger::FILE);
    let witness = Arc::new(Witness { inner: bench.real_executor(), ledger, seen: Mutex::default() });
    bench.start(Some(Arc::clone(&witness) as _)).await;
    witness
}

/// Until something is refused.
async fn life(bench: &Bench) -> Result<(), String> {
    for (number, (profile, gpu)) in [("vf-8", SRIOV), ("sim-small", MDEV)].into_iter().enumerate() {
        let id = format!("s{}", number + 1);
        bench.create(profile, gpu, 1, Some("pod-a")).await.map_err(|refused| refused.text)?;
        bench.release(&id).await.map_err(|refused| refused.text)?;
        bench.destroy(&id).await.map_err(|refused| refused.text)?;
    }
    Ok(())
}

fn spoil(bench: &Bench, sql: &str) {
    Connection::open(bench.folder.path().join(ledger::FILE)).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_effect_runs_whose_intent_could_not_be_written() {
    let (mut refused, mut effects, mut kinds) = (0, 0, BTreeSet::new());
    for intents in 0.. {
        let mut bench = Bench::new(&machine());
        let witness = started(&mut bench).await;
        spoil(
            &bench,
            &format!(
                "CREATE TRIGGER full BEFORE INSERT ON intents WHEN (SELECT count(*) FROM intents) >= {intents} \
                 BEGIN SELECT RAISE(ABORT, 'no room'); END"
            ),
        );
        let result = life(&bench).await;
        if result.is_ok() {
            bench.at_rest().await;
        }
        {
            let seen = witness.seen.lock().unwrap();
            assert_eq!(seen.not_on_record, Vec::<String>::new(), "with {intents} intents");
            assert!(seen.effects <= intents, "{} effects ran with {intents} intents", seen.effects);
            effects += seen.effects;
            kinds.extend(seen.kinds.iter().copied());
        }
        let Err(text) = result else { break };
        assert!(text.contains("Cannot write to the ledger") && text.contains("start vgpud again"), "{text}");
        let ended = bench.ended().await;
        assert!(matches!(ended, StartError::Ledger(ledger::Error::Write { .. })), "{ended:?}");
        refused += 1;
        // The cause is mended.
        spoil(&bench, "DROP TRIGGER full");
        started(&mut bench).await;
        bench.at_rest().await;
        bench.check().await;
    }
    // Past libtest's capture: the figure is what this test is run for.
    writeln!(
        std::io::stderr(),
        "\nledger: {refused} intents refused in turn, {effects} effects of {} kinds ran, 0 not on record",
        kinds.len()
    )
    .unwrap();
    assert!(refused > 8 && kinds.len() >= 6, "{refused} {kinds:?}");
}
