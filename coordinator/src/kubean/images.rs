//! What a spray-job image does, as far as its tag says it: the systems that it manages, and how it
//! finds a member of etcd.

use crate::domain::profile::Profile;

/// End of the tags of images whose Ansible needs a newer Python than CentOS 7 has (domain reference
/// 2.9).
const MODERN: &str = "-modern";

/// First images that look for a member of etcd by its whole address (kubespray v2.26, domain reference
/// 2.9 and F7).
const WHOLE_ADDRESSES: (u32, u32) = (0, 20);

/// Whether the image manages hosts with this system.
///
/// # Errors
/// Why it does not, or why nobody can tell.
pub fn manages(image: &str, system: &Profile) -> Result<(), String> {
    let Some((major, minor)) = system.image_below else { return Ok(()) };
    let Some(tag) = tag(image) else {
        return Err(format!("{image} has no tag that says whether it manages {}", system.id));
    };
    if tag.ends_with(MODERN) {
        return Err(format!("{tag} does not manage {}: its Ansible is too new", system.id));
    }
    match release(tag) {
        Some(release) if release < (major, minor) => Ok(()),
        Some(_) => Err(format!(
            "{tag} does not manage {}: only images below v{major}.{minor} do",
            system.id
        )),
        None => Err(format!("the tag {tag} does not say whether it manages {}", system.id)),
    }
}

/// Whether a removal of the member of etcd at `address` would find that at `other`, too: old playbooks
/// run `etcdctl member list | grep ADDRESS`, in which a point is any character, and of 10.0.0.1 and
/// 10.0.0.11 one is a part of the other (F7, kubespray#7296).
pub fn mistakes(image: &str, address: &str, other: &str) -> bool {
    if tag(image).and_then(release).is_some_and(|release| release >= WHOLE_ADDRESSES) {
        return false;
    }
    let found = |window: &[u8]| {
        window.iter().zip(address.bytes()).all(|(is, wanted)| wanted == b'.' || *is == wanted)
    };
    format!("https://{other}:2380").as_bytes().windows(address.len()).any(found)
}

fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next().and_then(|name| name.rsplit('/').next());
    Some(name?.split_once(':')?.1)
}

/// The first two numbers of a tag.
fn release(tag: &str) -> Option<(u32, u32)> {
    let mut numbers = tag.trim_start_matches('v').split(['.', '-', '_']).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::profile::PROFILES;

    #[test]
    fn the_tag_says_whether_an_image_manages_an_old_system() {
        let is = |image: &str, system: &str| {
            let system = PROFILES.iter().find(|profile| profile.id == system).unwrap();
            manages(image, system).err().unwrap_or_default()
        };
        let digest = format!("sha256:{}", "0".repeat(64));
        for image in ["r.example:5000/spray-job:v0.12.2", "spray-job:v0.18.0-ansible-core2.16"] {
            assert_eq!(is(image, "centos-7.9"), "", "{image}");
        }
        assert_eq!(is(&format!("spray-job:0.15.0@{digest}"), "centos-7.9"), "");
        for (image, why) in [
            ("spray-job:v0.20.0", "v0.20.0 does not manage centos-7.9: only images below v0.20"),
            ("spray-job:v0.12.2-modern", "its Ansible is too new"),
            ("spray-job:stable", "does not say"),
            ("r.example:5000/spray-job", "has no tag"),
        ] {
            assert!(is(image, "centos-7.9").contains(why), "{image}");
        }
        assert!(is(&format!("spray-job@{digest}"), "centos-7.9").contains("has no tag"));
        assert_eq!(is("spray-job:v0.30.0-modern", "ubuntu-22.04"), "");
    }
    #[test]
    fn old_playbooks_mistake_a_member_whose_address_contains_the_other() {
        let old = "ghcr.io/kubean-io/spray-job:v0.12.2";
        for (address, other, found) in [
            ("10.0.0.1", "10.0.0.11", true),
            ("10.0.0.11", "10.0.0.1", false),
            ("10.0.0.1", "110.0.0.1", true),
            ("10.1.0.1", "10.110.1.9", true), // a point is any character
            ("10.2.0.1", "10.110.1.9", false),
            ("10.77.0.11", "10.77.0.12", false),
        ] {
            assert_eq!(mistakes(old, address, other), found, "{address} in {other}");
        }
        assert!(!mistakes("spray-job:v0.20.0", "10.0.0.1", "10.0.0.11"));
        assert!(mistakes("spray-job:stable", "10.0.0.1", "10.0.0.11"), "nobody can tell");
    }
}
