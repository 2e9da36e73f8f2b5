//! `vgpuctl create [PROFILE] …`.

use super::{
    client::Client,
    document::{DryRun, PhaseWord, Slices},
    error::Error,
    exit::Exit,
    lease_time::LeaseTime,
    progress::Progress,
    session::Session,
    size::{self, Amounts},
};
use crate::{
    api::{self, create_progress::Step},
    nearest::{did_you_mean, nearest},
};
use clap::{ArgGroup, Args};
use std::collections::{BTreeMap, BTreeSet};
use vgpud_config::{
    AffinityStrength, ComputeRequest, ConsumerName, Memory, NumaAffinity, Owner, PciAddress, ProfileName,
};

/// Create slices: by profile or class, or the smallest that has the memory and compute asked for
///
/// All or none are created. With several GPUs, vgpud chooses; --dry-run says what and why.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("size").args(["profile", "memory", "compute", "class"]).required(true).multiple(true),
    after_help = "Example:\n  vgpuctl create --memory 20GiB --compute 25%+ --count 2\n  vgpuctl create --class inference-small\n  vgpuctl create vf-8 --gpu 0000:41:00.0 --dry-run"
)]
pub struct CreateArgs {
    /// A profile's name, from `vgpuctl profiles`
    #[arg(conflicts_with = "class")]
    profile: Option<ProfileName>,
    /// On this GPU, by PCI address
    #[arg(long)]
    gpu: Option<PciAddress>,
    /// On a GPU of this NUMA node where one has room, such as 0, or on no other, such as require:0;
    /// default: `numa_node` under [placement], where no GPU is named
    #[arg(long, value_name = "NODE")]
    numa: Option<NumaAffinity>,
    #[command(flatten)]
    amounts: Amounts,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Lease each slice to this owner at once
    #[arg(long)]
    owner: Option<Owner>,
    /// Who may open the nodes: a user, or user:group; default: `user` and `group` under [vfio], root
    #[arg(long, value_name = "USER[:GROUP]", requires = "owner")]
    user: Option<ConsumerName>,
    /// Let the leases end by themselves after this time, such as 2h or 90min
    #[arg(long = "for", value_name = "TIME", requires = "owner")]
    time: Option<LeaseTime>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Creates them, and shows the progress.
///
/// # Errors
/// Where vgpud refuses or fails; then none was created.
pub async fn execute(session: &Session, args: &CreateArgs) -> Result<Exit, Error> {
    let client = session.connect().await?;
    let sized = match &args.profile {
        Some(profile) => size::agreed(&client, profile, &args.amounts, args.gpu).await?,
        None => args.amounts.request(args.gpu),
    };
    let request = api::Request { numa: args.numa.map(on_node), ..sized };
    let whole = api::CreateSlicesRequest {
        request: Some(request.clone()),
        count: args.count,
        owner: args.owner.clone().map(String::from),
        dry_run: args.dry_run,
        user: args.user.as_ref().map(ToString::to_string),
        time_ms: args.time.map(LeaseTime::ms),
    };
    match carry_out(session, &client, whole).await {
        Ok(()) => Ok(Exit::Success),
        Err(error) => Err(name_hint(&client, &request, error).await),
    }
}

fn on_node(affinity: NumaAffinity) -> api::NumaAffinity {
    api::NumaAffinity { node: affinity.node, required: affinity.strength == AffinityStrength::Require }
}

async fn carry_out(
    session: &Session,
    client: &Client,
    request: api::CreateSlicesRequest,
) -> Result<(), Error> {
    let dry_run = request.dry_run;
    let mut progress = Progress::start(session, "asking vgpud");
    let mut steps = client.create(request).await?;
    let mut tally = Tally::default();
    while let Some(message) = steps.next().await? {
        match message.step {
            Some(Step::Plan(plan)) if dry_run => {
                drop(progress);
                return session.print(&DryRun::new(plan));
            }
            Some(Step::Plan(plan)) => {
                tally = Tally::of(&plan);
                progress.tell(&tally.text());
            }
            Some(Step::Changed(slice)) => {
                tally.note(&slice);
                progress.tell(&tally.text());
            }
            Some(Step::Done(created)) => {
                drop(progress);
                return session.print(&Slices::new(created.slices));
            }
            // A step that this vgpuctl does not know: vgpud is newer.
            None => {}
        }
    }
    Err(Error::Incomplete { asked: "create slices" })
}

/// How far the request has come.
#[derive(Debug, Default)]
struct Tally {
    planned: BTreeMap<String, usize>,
    ready: BTreeMap<String, BTreeSet<String>>,
    trouble: Option<String>,
}

impl Tally {
    fn of(plan: &api::Plan) -> Self {
        let mut tally = Self::default();
        for slice in &plan.slices {
            *tally.planned.entry(slice.gpu.clone()).or_default() += 1;
        }
        tally
    }

    fn note(&mut self, slice: &api::Slice) {
        let phase = PhaseWord::of(slice.phase);
        let ready = self.ready.entry(slice.gpu.clone()).or_default();
        if phase.is_ready() {
            ready.insert(slice.id.clone());
        } else {
            ready.remove(&slice.id);
        }
        if phase == PhaseWord::Quarantined {
            let why = slice.quarantine_reason.as_deref().unwrap_or("vgpud gave no reason");
            self.trouble = Some(format!("{} is quarantined: {why}", slice.id));
        }
    }

    fn text(&self) -> String {
        let ready = |gpu: &String| self.ready.get(gpu).map_or(0, BTreeSet::len);
        let each: Vec<String> = self
            .planned
            .iter()
            .map(|(gpu, planned)| format!("{} of {planned} ready on {gpu}", ready(gpu)))
            .collect();
        match &self.trouble {
            Some(trouble) => format!("{}; {trouble}", each.join(", ")),
            None => each.join(", "),
        }
    }
}

/// The failure of a request, with the GPU or profile that was most likely meant.
pub async fn name_hint(client: &Client, request: &api::Request, error: Error) -> Error {
    if !error.is_about_a_name() {
        return error;
    }
    // A hint that cannot be had must not hide the failure itself.
    let gpus = client.gpus().await.unwrap_or_default();
    let addresses = || gpus.iter().map(|gpu| gpu.address.as_str());
    if let Some(gpu) = request.gpu.as_ref().filter(|gpu| !addresses().any(|known| known == *gpu)) {
        return error.with_hint(did_you_mean(gpu, addresses()));
    }
    let Some(profile) = &request.profile else { return error };
    let anywhere = api::Request { gpu: request.gpu.clone(), ..api::Request::default() };
    let profiles = client.profiles(anywhere).await.unwrap_or_default();
    error.with_hint(profile_hint(profile, profiles.iter().map(|profile| profile.name.as_str())))
}

/// The profile that `typed` most likely means; an amount that stands where a profile should is told.
fn profile_hint<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    if let Some(name) = nearest(typed, known) {
        return Some(format!("did you mean {name}?"));
    }
    if typed.parse::<Memory>().is_ok() {
        return Some(format!("did you mean --memory {typed}?"));
    }
    typed.parse::<ComputeRequest>().is_ok().then(|| format!("did you mean --compute {typed}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(id: &str, gpu: &str, phase: api::Phase) -> api::Slice {
        api::Slice { id: id.into(), gpu: gpu.into(), phase: phase.into(), ..api::Slice::default() }
    }

    #[test]
    fn progress_counts_per_gpu_and_each_slice_once() {
        let planned = |gpu: &str| api::PlannedSlice { gpu: gpu.into(), ..api::PlannedSlice::default() };
        let plan =
            api::Plan { slices: vec![planned("a"), planned("a"), planned("b")], ..api::Plan::default() };
        let mut tally = Tally::of(&plan);
        assert_eq!(tally.text(), "0 of 2 ready on a, 0 of 1 ready on b");
        tally.note(&slice("s1", "a", api::Phase::Creating));
        tally.note(&slice("s1", "a", api::Phase::Ready));
        tally.note(&slice("s1", "a", api::Phase::Leased));
        assert_eq!(tally.text(), "1 of 2 ready on a, 0 of 1 ready on b");
        tally.note(&slice("s1", "a", api::Phase::Destroying));
        assert_eq!(tally.text(), "0 of 2 ready on a, 0 of 1 ready on b");
        tally.note(&slice("s2", "a", api::Phase::Quarantined));
        assert!(tally.text().ends_with("; s2 is quarantined: vgpud gave no reason"));
    }

    #[test]
    fn an_amount_in_the_place_of_a_profile_is_recognised() {
        assert_eq!(profile_hint("20GiB", ["vf-8"]).as_deref(), Some("did you mean --memory 20GiB?"));
        assert_eq!(profile_hint("25%", ["vf-8"]).as_deref(), Some("did you mean --compute 25%?"));
        assert_eq!(profile_hint("25%+", ["vf-8"]).as_deref(), Some("did you mean --compute 25%+?"));
        assert_eq!(profile_hint("vf8", ["vf-8"]).as_deref(), Some("did you mean vf-8?"));
        assert_eq!(profile_hint("gigantic", ["vf-8"]), None);
    }
}
