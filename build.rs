//! Compiles the API description with protox, so that no protoc has to be installed, and lists its calls
//! as an enum, so that a match on it is exhaustive over the API.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/vgpud/v1/vgpud.proto"], ["proto"])?;
    let mut calls = Vec::new();
    for file in &files.file {
        for service in &file.service {
            let path = format!("/{}.{}", file.package(), service.name());
            calls.extend(service.method.iter().map(|method| (method.name().to_owned(), path.clone())));
        }
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("rpc.rs"), enumerate(&calls))?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}

/// The enum of the calls, each by its name and the path of its service.
fn enumerate(calls: &[(String, String)]) -> String {
    let all = |line: &dyn Fn(&str, &str) -> String| -> String {
        calls.iter().map(|(name, service)| line(name, service)).collect()
    };
    format!(
        "/// A call of the API.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         pub enum Rpc {{ {} }}\n\
         impl Rpc {{\n\
         pub const ALL: &'static [Self] = &[{}];\n\
         /// Its name in the description.\n\
         #[must_use]\n\
         pub const fn name(self) -> &'static str {{ match self {{ {} }} }}\n\
         /// Its path on the wire.\n\
         #[must_use]\n\
         pub const fn path(self) -> &'static str {{ match self {{ {} }} }}\n\
         }}\n",
        all(&|name, _| format!("{name}, ")),
        all(&|name, _| format!("Self::{name}, ")),
        all(&|name, _| format!("Self::{name} => {name:?}, ")),
        all(&|name, service| format!("Self::{name} => \"{service}/{name}\", ")),
    )
}
