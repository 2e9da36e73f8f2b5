use super::*;
use crate::{
    api::{self, vgpud_server::VgpudServer},
    daemon::{
        admission::{Line, Places, Who},
        service::Service as Api,
        snapshot::Snapshot,
    },
    engine::{State, UnixMillis},
};
use std::collections::BTreeMap;
use tokio::sync::{mpsc, watch};
use vgpud_config::Settings;
use vgpud_mdev::Host;

/// A core that answers nothing but that the host was read.
fn core() -> (Handle, mpsc::UnboundedReceiver<Message>) {
    let snapshot = Snapshot {
        state: State::default(),
        gpus: BTreeMap::new(),
        waiting: BTreeMap::new(),
        stuck: BTreeMap::new(),
        last_sequence: 0,
        settings: Arc::new(Settings::default()),
        started: UnixMillis(0),
    };
    let (sender, mut asked) = mpsc::unbounded_channel();
    let (kept, queue) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(message) = asked.recv().await {
            match message {
                Message::Command(Command::Refresh { reply }) => drop(reply.send(())),
                other => drop(kept.send(other)),
            }
        }
    });
    let (snapshot, last_words) = (watch::channel(Arc::new(snapshot)).1, watch::channel(None).1);
    (Handle { sender, snapshot, last_words }, queue)
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &message].concat()
}

/// A client can give up a call at once (RST_STREAM), and make the next one.
#[tokio::test]
async fn a_call_that_its_client_gives_up_keeps_its_place_until_the_core_is_through_with_it() {
    let size = api::Request { memory_bytes: Some(1), ..Default::default() };
    let create = api::CreateSlicesRequest { request: Some(size), count: 1, ..Default::default() };
    let release = api::ReleaseSliceRequest { id: "s1".to_owned(), ..Default::default() };
    let watch = api::WatchEventsRequest { follow: true, after: 0 };
    for (rpc, body) in [
        (Rpc::ReleaseSlice, framed(&release)),
        (Rpc::CreateSlices, framed(&create)),
        (Rpc::WatchEvents, framed(&watch)),
    ] {
        let (handle, mut queue) = core();
        let guard = Arc::new(Guard::new(handle.clone()));
        let service = Api::new(handle, Host::new("/nowhere"), Arc::clone(&guard), String::new());
        let mut gate = Gate::new(VgpudServer::new(service), guard);
        let uid = nix::unistd::geteuid().as_raw();
        let (peer, who) = (Peer { uid, gid: 0, pid: None }, Who::User(1000));
        let line = Arc::new(Line::new(Some(peer), who, None, Places::connections().take(who).unwrap()));
        let mut call = || {
            let request = Request::post(rpc.path()).header("content-type", "application/grpc");
            let mut request = request.body(Body::new(Full::from(body.clone()))).unwrap();
            request.extensions_mut().insert(Arc::clone(&line));
            gate.call(request)
        };
        let mut messages = Vec::new();
        for _ in 0..32 {
            let begun = tokio::spawn(call());
            messages.push(queue.recv().await.unwrap());
            begun.abort();
            drop(begun.await);
        }
        let refused = tokio::time::timeout(Duration::from_secs(5), call()).await;
        let refused = refused.unwrap_or_else(|_| panic!("{rpc:?} is let in")).unwrap();
        let status =
            Status::from_header_map(refused.headers()).unwrap_or_else(|| panic!("{rpc:?} is let in"));
        assert!(status.message().contains("32 calls in flight"), "{rpc:?}: {status:?}");
        assert!(queue.try_recv().is_err());
        drop(messages);
        let again = async {
            loop {
                let begun = tokio::spawn(call());
                match tokio::time::timeout(Duration::from_millis(50), queue.recv()).await {
                    Ok(message) => break message,
                    Err(_) => drop(begun.await),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), again).await.expect("places are given back");
    }
}
