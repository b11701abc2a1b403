//! Who is calling: by the certificate that TLS has checked, or by the user of the socket.

use std::{fs, net::IpAddr};

use rehull_shared::{
    ids::{ClusterName, Generation, NodeName},
    text::bounded,
};
use tonic::{
    Request, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo},
};

use super::stranger::By;
use crate::authority::Name;

type Remote = TlsConnectInfo<By<TcpConnectInfo>>;

/// The agent that calls.
///
/// # Errors
/// For everybody else.
pub(super) fn agent<T>(
    request: &Request<T>,
) -> Result<(ClusterName, NodeName, Generation), Status> {
    match certificate(request)? {
        Some(Name::Agent { cluster, node, generation }) => Ok((cluster, node, generation)),
        _ => Err(Status::unauthenticated("only an enrolled agent may do this: enrol first")),
    }
}

/// The operator who calls, as they are named in the log.
///
/// # Errors
/// For everybody else.
pub(super) fn operator<T>(request: &Request<T>) -> Result<String, Status> {
    if let Some(local) = request.extensions().get::<UdsConnectInfo>() {
        let uid = local.peer_cred.ok_or_else(|| Status::internal("the socket names no user"))?;
        return Ok(user_name(uid.uid()));
    }
    match certificate(request)? {
        Some(Name::Operator { user }) => Ok(bounded(&user, 64)),
        _ => Err(Status::permission_denied(
            "only an operator may do this: use the socket on the coordinator's machine, \
             or --server with an operator's --cert",
        )),
    }
}

/// The address that calls; none over the socket.
pub(super) fn address<T>(request: &Request<T>) -> Option<IpAddr> {
    let remote = request.extensions().get::<Remote>()?;
    remote.get_ref().info.remote_addr().map(|address| address.ip())
}

/// Whose certificate was shown; then the connection may stay.
fn certificate<T>(request: &Request<T>) -> Result<Option<Name>, Status> {
    let Some(remote) = request.extensions().get::<Remote>() else { return Ok(None) };
    let certificates = remote.peer_certs().unwrap_or_default();
    let Some(first) = certificates.first() else { return Ok(None) };
    let name = Name::of_certificate(first);
    let name = name.map_err(|bad| Status::unauthenticated(bad.to_string()))?;
    remote.get_ref().is_known();
    Ok(Some(name))
}

/// The name of a user of this machine, from `/etc/passwd`; others are named by their number.
fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut users = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    });
    users.next().unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_by_the_system() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_000), "uid 4000000000");
    }
}
