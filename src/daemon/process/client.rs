//! Clients of the API, as any user.

use prost::Message as _;
use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use std::{os::unix::net::UnixStream, path::Path};
use tonic::{
    Status,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use vgpud::api::{self, Rpc};

/// A connection made by another user. The ids are those of this thread alone: the system call, unlike
/// the C library's function, does not change the others'.
pub fn connect_as(uid: u32, gid: u32, socket: &Path) -> UnixStream {
    let socket = socket.to_owned();
    let thread = std::thread::spawn(move || {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        set_thread_groups(&[]).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        UnixStream::connect(socket).unwrap()
    });
    thread.join().unwrap()
}

pub async fn channel(stream: UnixStream) -> Channel {
    channel_of(Endpoint::from_static("http://vgpud"), stream).await
}

pub async fn channel_of(endpoint: Endpoint, stream: UnixStream) -> Channel {
    stream.set_nonblocking(true).unwrap();
    let mut stream = Some(tokio::net::UnixStream::from_std(stream).unwrap());
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().map(hyper_util::rt::TokioIo::new);
        async move { stream.ok_or_else(|| std::io::Error::other("the connection was lost")) }
    });
    endpoint.connect_with_connector(connector).await.unwrap()
}

/// Calls it with an empty request, and reads its answer to the end.
pub async fn call(channel: &Channel, rpc: Rpc) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<(), ()>::default();
    let path = PathAndQuery::from_static(rpc.path());
    let mut answers = client.server_streaming(tonic::Request::new(()), path, codec).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}

pub fn reason(status: &Status) -> String {
    api::Failure::decode(status.details()).unwrap().reason
}
