//! Which operating systems a spray-job image manages, as far as its tag says it.

use crate::domain::profile::Profile;

/// End of the tags of images whose Ansible needs a newer Python than CentOS 7 has (domain reference
/// 2.9).
const MODERN: &str = "-modern";

/// Whether the image manages hosts with this system.
///
/// # Errors
/// Why it does not, or why nobody can tell.
pub fn manages(image: &str, system: &Profile) -> Result<(), String> {
    let Some((major, minor)) = system.image_below else { return Ok(()) };
    let name = image.split('@').next().and_then(|name| name.rsplit('/').next());
    let Some((_, tag)) = name.and_then(|name| name.split_once(':')) else {
        return Err(format!("{image} has no tag that says whether it manages {}", system.id));
    };
    if tag.ends_with(MODERN) {
        return Err(format!("{tag} does not manage {}: its Ansible is too new", system.id));
    }
    let mut numbers = tag.trim_start_matches('v').split(['.', '-', '_']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(a)), Some(Ok(b))) if (a, b) < (major, minor) => Ok(()),
        (Some(Ok(_)), Some(Ok(_))) => Err(format!(
            "{tag} does not manage {}: only images below v{major}.{minor} do",
            system.id
        )),
        _ => Err(format!("the tag {tag} does not say whether it manages {}", system.id)),
    }
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
}
