//! `rehull init`: a new coordinator.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::ExitCode};

use super::{Failure, output};
use crate::{authority::Authority, config::Config};

/// Name of the first operator's files in the coordinator's directory.
const OPERATOR: &str = "operator";

/// Makes the CA, the settings and the first operator's certificate.
pub(super) fn init(
    dir: &Path,
    listen: &str,
    advertise: Option<String>,
    user: &str,
) -> Result<ExitCode, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if user.is_empty() || !user.chars().all(plain) {
        return Err(Failure::usage(format!("--operator {user:?}: letters, digits and -_.@ only")));
    }
    let authority = Authority::create().map_err(Failure::new)?;
    let operator = authority.operator(user).map_err(Failure::new)?;
    let open = || fs::set_permissions(dir, fs::Permissions::from_mode(0o700));
    fs::create_dir_all(dir)
        .and_then(|()| open())
        .map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
    let advertise = advertise.unwrap_or_else(|| listen.to_owned());
    // The settings first: they are checked, and a coordinator that is there is seen by them.
    let config = Config::create(dir, listen, &advertise).map_err(Failure::new)?;
    authority.store(dir).map_err(Failure::new)?;
    operator.store(dir, OPERATOR).map_err(Failure::new)?;
    let dir = dir.display();
    output::text(&format!(
        "A coordinator was made in {dir}.\n\n\
         \x20 CA                ca.pem, ca.key (whoever reads the key can be anybody: back it up)\n\
         \x20 CA hash           {}\n\
         \x20 operator          {OPERATOR}.pem, {OPERATOR}.key (for --cert, on other machines)\n\
         \x20 agents connect to {}\n\n\
         Next:\n\
         \x20 rehull serve --dir {dir}\n\
         \x20 rehull agent token <cluster> <node> --dir {dir}\n\
         \x20 rehull plan -f migration.yaml --dir {dir}\n",
        authority.sha256(),
        config.advertise,
    ))
}
