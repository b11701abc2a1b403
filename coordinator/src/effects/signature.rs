//! The signature of `cluster-info`, proved with a bootstrap token of our own: a host that joins takes
//! what is signed with its token, and nothing else.
//!
//! The token may sign and nothing more: nobody can join with it, and it ends by itself. So it need not
//! be secret, and is made from names: every pass makes the same one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use rehull_shared::{evidence::Verdict, ids::NodeName, text::sha256_hex, time::Span};
use ring::hmac;

use super::{
    Pass, Requests, Trouble,
    api::{self, Failure},
};

/// How long a token lives: its gate is asked for some minutes at the most.
const LIFE: Span = Span::from_mins(15);

/// The type of the Secret of a bootstrap token, and where it must lie.
const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAMESPACE: &str = "kube-system";

/// How the key of a signature begins in `cluster-info`; the id of its token follows.
const SIGNATURE: &str = "jws-kubeconfig-";

/// What is signed.
const SIGNED: &str = "kubeconfig";

/// A bootstrap token: `id.secret`.
struct Token {
    id: String,
    secret: String,
}

impl Pass<'_> {
    /// Makes the token with which the signature is proved, if it is not there.
    pub(super) async fn make_token(&self, node: &NodeName) -> Result<Requests, Trouble> {
        let token = self.token(node)?;
        let name = format!("bootstrap-token-{}", token.id);
        let text = |text: &str| ByteString(text.as_bytes().to_vec());
        let data = [
            ("token-id", text(&token.id)),
            ("token-secret", text(&token.secret)),
            ("usage-bootstrap-signing", text("true")),
            ("expiration", text(&(self.now() + LIFE).to_string())),
            ("description", text("rehull proves the signature of cluster-info with it")),
        ];
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            type_: Some(TYPE.to_owned()),
            data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.workload().await?, NAMESPACE);
        match api::call(secrets.create(&PostParams::default(), &secret)).await {
            Ok(_) => Ok(Requests::new()),
            Err(Failure::Refused(status)) if status.code == 409 => Ok(Requests::new()),
            Err(failure) => Err(failure.with(format!("Secret {NAMESPACE}/{name}"))),
        }
    }

    /// Whether `cluster-info` carries a signature by the token, of what it says now.
    pub(super) fn info_signed(&self, node: &NodeName, map: &ConfigMap) -> Verdict {
        let token = match self.token(node) {
            Ok(token) => token,
            Err(trouble) => return Verdict::unknown(trouble.to_string()),
        };
        let field = |key: &str| map.data.as_ref().and_then(|data| data.get(key));
        let Some(signed) = field(SIGNED) else {
            return Verdict::fail(format!("cluster-info has no {SIGNED}"));
        };
        let Some(signature) = field(&format!("{SIGNATURE}{}", token.id)) else {
            let why = "cluster-info is not signed with a token of this moment: does the bootstrapsigner \
                       of a controller manager run?";
            return Verdict::fail(why);
        };
        match is_signed(signed, signature, &token) {
            true => Verdict::pass(format!("cluster-info is signed with token {}", token.id)),
            false => Verdict::fail(format!(
                "the signature of cluster-info with token {} is not of what it says",
                token.id
            )),
        }
    }

    fn token(&self, node: &NodeName) -> Result<Token, Trouble> {
        let attempt = self.node(node)?.attempt;
        let digits = sha256_hex(format!("{}/{node}/{attempt}/sign", self.migration.id).as_bytes());
        Ok(Token { id: digits[..6].to_owned(), secret: digits[6..22].to_owned() })
    }
}

/// Whether a signature (JWS, HS256, its payload left out: RFC 7515, appendix F) is of this text. The key
/// is the secret of the token without its id (`k8s.io/cluster-bootstrap`, `token/jws`).
fn is_signed(text: &str, signature: &str, Token { secret, .. }: &Token) -> bool {
    let mut parts = signature.split('.');
    let (Some(header), Some(""), Some(mac), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(text));
    let algorithm = URL_SAFE_NO_PAD.decode(header).ok();
    let algorithm = algorithm.and_then(|json| serde_json::from_slice(&json).ok());
    let is_hs256 = algorithm.is_some_and(|header: serde_json::Value| header["alg"] == "HS256");
    let mac = URL_SAFE_NO_PAD.decode(mac).unwrap_or_default();
    is_hs256 && hmac::verify(&key, input.as_bytes(), &mac).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_text_by_one_token() {
        let token = || Token { id: "abcdef".into(), secret: "0123456789abcdef".into() };
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"abcdef"}"#);
        let sign = |header: &str, text: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
            let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(text));
            format!("{header}..{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, input.as_bytes())))
        };
        let signature = sign(&header, "server: a");
        assert!(is_signed("server: a", &signature, &token()));
        assert!(!is_signed("server: b", &signature, &token()));
        let other = Token { secret: "0123456789abcdee".into(), ..token() };
        assert!(!is_signed("server: a", &signature, &other));
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        assert!(!is_signed("server: a", &sign(&none, "server: a"), &token()));
        for broken in ["", "..", "a.b", &signature.replace("..", ".x."), "a..b..c"] {
            assert!(!is_signed("server: a", broken, &token()), "{broken}");
        }
    }

    /// As the controller manager of Kubernetes v1.34.4 has signed it in a cluster that is no more.
    #[test]
    fn a_real_signature_is_believed() {
        let text = concat!(
            "apiVersion: v1\n",
            "clusters:\n",
            "- cluster:\n",
            "    certificate-authority-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJlREND",
            "QVIrZ0F3SUJBZ0lJZHhzY2hLVUNDd3N3Q2dZSUtvWkl6ajBFQXdJd0ZURVRNQkVHQTFVRUF4TUsKYTNW",
            "aVpYSnVaWFJsY3pBZUZ3MHlOakV4TWpjd09URTNOVE5hRncwek5qRXhNalF3T1RJeU5UTmFNQlV4RXpB",
            "UgpCZ05WQkFNVENtdDFZbVZ5Ym1WMFpYTXdXVEFUQmdjcWhrak9QUUlCQmdncWhrak9QUU1CQndOQ0FB",
            "U3lrNFY5CkthSk9mVWZ5NWFRM0FGMHlOcHprTitiZXhJWEV2RWM1MlpqM0ZFZ0ZjKzdsUm5iemtwdE0w",
            "cUVCS0hBZ1JYSHUKbDI3TXJuOEl5L2lsTEtaY28xa3dWekFPQmdOVkhROEJBZjhFQkFNQ0FxUXdEd1lE",
            "VlIwVEFRSC9CQVV3QXdFQgovekFkQmdOVkhRNEVGZ1FVM2hVWmJkKys2eW1lUjN3MFFnOWFnVmtiNFZv",
            "d0ZRWURWUjBSQkE0d0RJSUthM1ZpClpYSnVaWFJsY3pBS0JnZ3Foa2pPUFFRREFnTkhBREJFQWlBSlJw",
            "bTA1Njl2Rkhrb0h4S25GNU9EYVRPajBZVE0KMlFndUcxOHFjUGZKandJZ09IYk1pUmRYVFNFbVFXT1p6",
            "MFJ2azdlY0JhTW95aTRlSE94SzdHVmtDRk09Ci0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K\n",
            "    server: https://10.77.0.11:6443\n",
            "  name: \"\"\n",
            "contexts: null\n",
            "current-context: \"\"\n",
            "kind: Config\n",
            "users: null\n",
        );
        let signature =
            "eyJhbGciOiJIUzI1NiIsImtpZCI6Ijl3ZXU2dSJ9..ukf6kvaaezQuAtm5_axDPIkr1wNOY4yaWjLfFjtYxJ4";
        let token = Token { id: "9weu6u".into(), secret: "96a3o4ftvzi05iow".into() };
        assert!(is_signed(text, signature, &token));
        assert!(!is_signed(&text.replace("10.77.0.11", "10.77.0.12"), signature, &token));
    }
}
