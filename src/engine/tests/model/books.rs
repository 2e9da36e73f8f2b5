//! The reference: a ledger of accounts kept from outside. It knows nothing of phases; it watches what
//! was asked, what came of it, and what the engine makes of it.

use super::super::*;
use super::host::{CAPACITY, Host};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub struct Account {
    gpu: PciAddress,
    name: InstanceName,
    next: Option<InstanceName>,
    request: u64,
    pub generation: u64,
    pub lease: Option<Owner>,
    quarantined: bool,
    last_owner: Option<Owner>,
    /// The only one who may have it, where its reset left data.
    reserved: Option<Owner>,
    /// Whom it is leased to as soon as its whole request is there.
    promise: Option<Owner>,
    /// Whether anything was done for it.
    begun: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Books {
    accounts: BTreeMap<SliceId, Account>,
    gpus_out_of_use: BTreeSet<PciAddress>,
    last: u64,
    requests: u64,
}

impl Books {
    pub fn get(&self, id: SliceId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// Whether the quota has room. Slices that are leased count for certain, promised ones perhaps: a
    /// request that was given up keeps none.
    fn has_room(&self, claim: &Claim, asked: usize, counted: impl Fn(&Account) -> bool) -> bool {
        let has = self.accounts.values().filter(|account| counted(account)).count();
        claim.allowance.quota.slices.is_none_or(|limit| has + asked <= limit as usize)
    }

    fn surely_has_room(&self, claim: &Claim, asked: usize) -> bool {
        let owner = Some(&claim.owner);
        self.has_room(claim, asked, |it| it.lease.as_ref() == owner || it.promise.as_ref() == owner)
    }

    fn may_have_room(&self, claim: &Claim, asked: usize) -> bool {
        self.has_room(claim, asked, |account| account.lease.as_ref() == Some(&claim.owner))
    }

    fn fits(&self, plan: &[PlannedSlice]) -> bool {
        let mut names: Vec<_> = self
            .accounts
            .values()
            .flat_map(|account| {
                [Some(account.name), account.next].into_iter().flatten().map(|name| (account.gpu, name))
            })
            .collect();
        let mut of_gpu: Vec<_> = self.accounts.values().map(|account| account.gpu).collect();
        plan.iter().all(|slice| {
            let place = (slice.gpu, slice.name);
            let room = of_gpu.iter().filter(|gpu| **gpu == slice.gpu).count() < CAPACITY as usize;
            let free = !names.contains(&place);
            names.push(place);
            of_gpu.push(slice.gpu);
            room && free && !self.gpus_out_of_use.contains(&slice.gpu)
        })
    }

    fn usable(&self, id: SliceId) -> bool {
        self.get(id).is_some_and(|account| !self.gpus_out_of_use.contains(&account.gpu))
    }

    /// Whether the slice is free for this owner now.
    fn available(&self, id: SliceId, owner: &Owner, at_work: impl Fn(SliceId) -> bool) -> bool {
        let reserved = self.get(id).and_then(|account| account.reserved.as_ref());
        reserved.is_none_or(|reserved| reserved == owner) && self.idle(id, at_work)
    }

    /// Whether nobody has the slice and nothing is done to it. `at_work`: an effect is under way for it.
    fn idle(&self, id: SliceId, at_work: impl Fn(SliceId) -> bool) -> bool {
        let Some(account) = self.accounts.get(&id) else { return false };
        let request = self.accounts.iter().filter(|(_, other)| other.request == account.request);
        account.lease.is_none()
            && !account.quarantined
            && account.begun
            && request.into_iter().all(|(id, other)| other.begun && !at_work(*id))
    }

    /// Whether the engine has to say no.
    fn forbids(&self, event: &Event) -> bool {
        let account = |id| self.accounts.get(id);
        match event {
            Event::Plan { slices, claim, .. } => {
                let full = |claim| !self.may_have_room(claim, slices.len());
                !self.fits(slices) || claim.as_ref().is_some_and(full)
            }
            Event::Lease { slice, claim, .. } => {
                !self.usable(*slice)
                    || !self.may_have_room(claim, 1)
                    || account(slice).is_none_or(|account| {
                        let others = account.reserved.as_ref().is_some_and(|owner| *owner != claim.owner);
                        account.lease.is_some() || account.quarantined || others
                    })
            }
            Event::Extend { slice, .. } => account(slice).is_none_or(|account| account.lease.is_none()),
            Event::Quarantine { slice, .. } => {
                account(slice).is_none_or(|account| account.lease.is_some() || account.quarantined)
            }
            Event::QuarantineGpu { gpu, .. } => self.gpus_out_of_use.contains(gpu),
            Event::ClearGpu { gpu, shown, .. } => {
                *shown != GpuShown::There || !self.gpus_out_of_use.contains(gpu)
            }
            Event::Release { slice, generation, .. } => account(slice).is_none_or(|account| {
                account.quarantined || generation.is_some_and(|asked| asked.0 != account.generation)
            }),
            Event::Destroy { slice, leased } => {
                account(slice).is_none_or(|account| account.lease.is_some() && *leased == LeasedSlice::Refuse)
            }
            Event::Clear { slice, shown } => {
                *shown == Shown::GpuAbsent
                    || !self.usable(*slice)
                    || account(slice).is_none_or(|account| !account.quarantined)
            }
            _ => false,
        }
    }

    /// The engine said no.
    pub fn refused(&self, event: &Event, at_work: impl Fn(SliceId) -> bool) -> Result<(), String> {
        let granted = match event {
            Event::Plan { slices, claim, .. } => {
                let room = |claim| self.surely_has_room(claim, slices.len());
                self.fits(slices) && claim.as_ref().is_none_or(room)
            }
            Event::Lease { slice, claim, .. } => {
                self.usable(*slice)
                    && self.available(*slice, &claim.owner, at_work)
                    && self.surely_has_room(claim, 1)
            }
            Event::Quarantine { slice, .. } => self.idle(*slice, at_work),
            Event::QuarantineGpu { gpu, .. } => !self.gpus_out_of_use.contains(gpu),
            Event::ClearGpu { gpu, shown, .. } => {
                *shown == GpuShown::There && self.gpus_out_of_use.contains(gpu)
            }
            Event::Destroy { slice, .. } => self.get(*slice).is_some_and(|account| account.quarantined),
            Event::Clear { slice, shown } => {
                *shown != Shown::GpuAbsent
                    && self.usable(*slice)
                    && self.get(*slice).is_some_and(|account| account.quarantined)
            }
            _ => false,
        };
        if granted { Err(format!("{event:?} was refused and is due")) } else { Ok(()) }
    }

    /// The engine said yes, and has come to `after`.
    pub fn accepted(&mut self, event: &Event, after: &State, host: &Host) -> Result<(), String> {
        if self.forbids(event) {
            return Err(format!("{event:?} was granted and must not be"));
        }
        if let Event::Plan { slices, claim, .. } = event {
            self.open_accounts(slices, claim.as_ref().map(|claim| &claim.owner));
        }
        match event {
            Event::QuarantineGpu { gpu, .. } => {
                self.gpus_out_of_use.insert(*gpu);
            }
            Event::ClearGpu { gpu, .. } => {
                self.gpus_out_of_use.remove(gpu);
            }
            _ => {}
        }
        if !after.quarantined_gpus.keys().eq(&self.gpus_out_of_use) {
            return Err(format!("GPUs out of use: {:?} after {event:?}", after.quarantined_gpus));
        }
        for id in self.accounts.keys().copied().collect::<Vec<_>>() {
            match after.slices.get(&id) {
                Some(slice) => self.follow(id, slice, event, host)?,
                None => self.close_account(id, event, host)?,
            }
        }
        if let Some(stranger) = after.slices.keys().find(|id| !self.accounts.contains_key(id)) {
            return Err(format!("{stranger} came from nowhere"));
        }
        if after.last_id != self.last {
            return Err(format!("the last id is {}, and {} were given", after.last_id, self.last));
        }
        Ok(())
    }

    fn open_accounts(&mut self, slices: &[PlannedSlice], owner: Option<&Owner>) {
        self.requests += 1;
        for planned in slices {
            self.last += 1;
            let account = Account {
                gpu: planned.gpu,
                name: planned.name,
                next: None,
                request: self.requests,
                generation: 0,
                lease: None,
                quarantined: false,
                last_owner: None,
                reserved: None,
                promise: owner.cloned(),
                begun: false,
            };
            self.accounts.insert(SliceId::new(self.last), account);
        }
    }

    /// A slice may go when it was destroyed, or when nothing was ever done for it; never while it is
    /// leased, and never leaving an instance.
    fn close_account(&mut self, id: SliceId, event: &Event, host: &Host) -> Result<(), String> {
        let Some(account) = self.accounts.remove(&id) else { return Ok(()) };
        let ended = match event {
            Event::Destroyed { slice } | Event::CreateFailed { slice, ran: Ran::Never, .. } => *slice == id,
            _ => false,
        };
        if account.begun && !ended {
            return Err(format!("{id} is lost by {event:?}"));
        }
        if let Some(owner) = account.lease {
            return Err(format!("{id} is gone while {owner} has it"));
        }
        let left = host.gpus.get(&account.gpu).is_some_and(|gpu| gpu.instances.contains_key(&account.name));
        if left {
            return Err(format!("{id} is gone and {} of {} is left", account.name, account.gpu));
        }
        Ok(())
    }

    fn follow(&mut self, id: SliceId, slice: &Slice, event: &Event, host: &Host) -> Result<(), String> {
        let usable = self.usable(id);
        let Some(account) = self.accounts.get_mut(&id) else { return Ok(()) };
        let quarantined = matches!(slice.phase, Phase::Quarantined { .. });
        let asked =
            matches!(event, Event::Destroy { slice, .. } | Event::Clear { slice, .. } if *slice == id);
        if account.quarantined && !quarantined && !asked {
            return Err(format!("{id} left its quarantine by {event:?}"));
        }
        let now = slice.phase.lease().map(|lease| lease.owner.clone());
        match (&account.lease, &now) {
            (None, Some(owner)) => {
                let asked = matches!(event, Event::Lease { slice, claim, .. } if *slice == id && claim.owner == *owner);
                let outcome = matches!(event, Event::Created { .. } | Event::HandedOver { .. });
                let promised = outcome && account.promise.as_ref() == Some(owner);
                if !asked && !promised {
                    return Err(format!("{id} is given to {owner} by {event:?}"));
                }
                if account.quarantined || !usable {
                    return Err(format!("{id} is leased out of its quarantine, or its GPU's"));
                }
                account.generation += 1;
                let found = host.gpus.get(&account.gpu).and_then(|gpu| gpu.instances.get(&account.name));
                let tenancy = (id, slice.generation);
                let left = found.and_then(|found| found.data_of);
                let left = left.filter(|left| !host.is_same_owner(*left, tenancy));
                if let Some(tenancy) = found.and_then(|found| found.open_by).or(left) {
                    return Err(format!("{id} is given to {owner} with what {tenancy:?} left"));
                }
            }
            (Some(owner), None) => {
                let ended = match event {
                    Event::Withdrawn { slice } | Event::Rebooted { slice, .. } => *slice == id,
                    _ => quarantined,
                };
                if !ended {
                    return Err(format!("{owner} lost {id} by {event:?}"));
                }
            }
            (Some(owner), Some(other)) if owner != other => {
                return Err(format!("{id} went from {owner} to {other} by {event:?}"));
            }
            _ => {}
        }
        if slice.generation.0 != account.generation {
            return Err(format!("{id} is at lease {}, not {}", slice.generation, account.generation));
        }
        let by_client =
            matches!(event, Event::Lease { slice, .. } | Event::Release { slice, .. } if *slice == id);
        if by_client {
            account.promise = None;
        }
        match event {
            Event::Kept { slice, .. } if *slice == id && !quarantined => {
                account.reserved.clone_from(&account.last_owner);
            }
            Event::Scrubbed { slice, .. } | Event::Created { slice, .. } if *slice == id => {
                account.reserved = None;
            }
            _ => {}
        }
        if quarantined {
            account.reserved = None;
        }
        match event {
            Event::NoReset { slice, fresh, .. } if *slice == id && slice.number() > 0 => {
                account.next = Some(*fresh);
            }
            Event::Destroyed { slice } | Event::Rebooted { slice, .. } if *slice == id => {
                account.name = account.next.take().unwrap_or(account.name);
            }
            _ => {}
        }
        account.next = account.next.filter(|name| slice.next_name() == Some(*name));
        if (slice.gpu, slice.name, slice.next_name()) != (account.gpu, account.name, account.next) {
            return Err(format!("{id} is {} of {}, not {}", slice.name, slice.gpu, account.name));
        }
        account.begun |= slice.phase != Phase::Planned;
        account.quarantined = quarantined;
        account.last_owner = now.clone().or(account.last_owner.take());
        account.lease = now;
        Ok(())
    }
}
