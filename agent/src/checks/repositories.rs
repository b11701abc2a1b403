//! Package repositories, those that the host is set up with and those that it will be: whether each
//! answers with an index of packages (F40, F80). Nothing is installed, and no cache is touched.

use std::collections::BTreeMap;

use rehull_proto::v1::{Collect, Repositories, Repository};
use rehull_shared::text::bounded;

use super::{Gaps, TEXT_BYTES_MAX, identity};
use crate::host::Host;

/// Repositories that are tried in one look, all at once: more would take longer than a look may.
const TRIED_MAX: usize = 32;

const FILES_MAX: usize = 64;
const FILE_BYTES_MAX: usize = 64 * 1024;

/// Of an index, only its beginning is fetched.
const INDEX_BYTES_MAX: usize = 16 * 1024;

const APT_DIR: &str = "/etc/apt/sources.list.d";
const YUM_DIRS: [&str; 2] = ["/etc/yum.repos.d", "/etc/distro.repos.d"];
const YUM_VARS: [&str; 2] = ["/etc/yum/vars", "/etc/dnf/vars"];

/// One repository: what it is called, and where an index of it may be.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    name: String,
    indexes: Vec<String>,
}

/// Tries what was asked about; `None` if nothing was.
pub(super) async fn look(host: &Host, asked: &Collect, gaps: &mut Gaps) -> Option<Repositories> {
    if asked.repositories.is_empty() && !asked.own_repositories {
        return None;
    }
    let mut places: Vec<Place> =
        asked.repositories.iter().take(TRIED_MAX).map(|line| place(line, &arch(host))).collect();
    if asked.own_repositories {
        places.extend(apt(host, gaps));
        places.extend(yum(host, gaps));
    }
    if places.len() > TRIED_MAX || asked.repositories.len() > TRIED_MAX {
        gaps.add("repositories", format!("more than {TRIED_MAX} repositories"));
        places.truncate(TRIED_MAX);
    }
    let mut tries = tokio::task::JoinSet::new();
    for (number, place) in places.into_iter().enumerate() {
        let host = host.clone();
        tries.spawn(async move { (number, tried(&host, place).await) });
    }
    let mut found: Vec<(usize, Repository)> = Vec::new();
    while let Some(answer) = tries.join_next().await {
        match answer {
            Ok(answer) => found.push(answer),
            Err(error) => gaps.add("repositories", error),
        }
    }
    found.sort_by_key(|(number, _)| *number);
    Some(Repositories { found: found.into_iter().map(|(_, one)| one).collect() })
}

/// Fetches one index after the other until one is an index.
async fn tried(host: &Host, place: Place) -> Repository {
    let name = bounded(&without_credentials(&place.name), TEXT_BYTES_MAX);
    let mut seen = "it names no address that can be tried".to_owned();
    for index in &place.indexes {
        let shown = without_credentials(index);
        match host.fetch(index, INDEX_BYTES_MAX).await {
            Ok(content) if is_index(&content) => {
                return Repository { name, serves: true, seen: bounded(&shown, TEXT_BYTES_MAX) };
            }
            Ok(_) => seen = format!("{shown} is no index of packages"),
            Err(why) => seen = format!("{shown}: {why}"),
        }
    }
    Repository { name, serves: false, seen: bounded(&seen, TEXT_BYTES_MAX) }
}

/// Whether it begins as one of yum (`repomd.xml`), or of apt (`Release`, `Packages`, plain or
/// packed). A page that a proxy shows in its stead does not.
fn is_index(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let key = |name: &str| text.lines().any(|line| line.starts_with(name));
    content.starts_with(&[0x1f, 0x8b])
        || text.contains("<repomd")
        || key("SHA256:")
        || key("MD5Sum:")
        || key("Package:")
        || text.contains("<metalink")
}

/// A line of `sources.list`, or a base URL of yum.
fn place(line: &str, arch: &str) -> Place {
    let name = line.trim().to_owned();
    let indexes = match name.strip_prefix("deb ") {
        Some(rest) => {
            // Options stand in brackets, and may hold spaces.
            let rest = rest.trim_start();
            let rest = match rest.strip_prefix('[') {
                Some(options) => options.split_once(']').map_or("", |(_, rest)| rest),
                None => rest,
            };
            let words: Vec<&str> = rest.split_ascii_whitespace().collect();
            match words[..] {
                [url, suite, ref components @ ..] => of_apt(url, suite, components, arch),
                _ => Vec::new(),
            }
        }
        None => vec![of_yum(&name)],
    };
    Place { name, indexes }
}

fn of_apt(url: &str, suite: &str, components: &[&str], arch: &str) -> Vec<String> {
    let url = url.trim_end_matches('/');
    // A suite that ends so is a directory without components.
    let (base, packages) = match suite.strip_suffix('/') {
        Some(dir) => (format!("{url}/{dir}"), vec![format!("{url}/{dir}/Packages")]),
        None => {
            let base = format!("{url}/dists/{suite}");
            let of = |component: &&str| format!("{base}/{component}/binary-{arch}/Packages");
            let packages = components.iter().map(of).collect();
            (base, packages)
        }
    };
    let mut indexes = vec![format!("{base}/InRelease"), format!("{base}/Release")];
    indexes.extend(packages.into_iter().flat_map(|one| [format!("{one}.gz"), one]));
    indexes
}

fn of_yum(url: &str) -> String {
    format!("{}/repodata/repomd.xml", url.trim_end_matches('/'))
}

/// The architecture as Debian calls it.
fn arch(host: &Host) -> String {
    match identity::os(host).map(|os| os.architecture).unwrap_or_default().as_str() {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    }
}

/// The repositories of `sources.list` and of the files beside it.
fn apt(host: &Host, gaps: &mut Gaps) -> Vec<Place> {
    let arch = arch(host);
    let mut places = Vec::new();
    for file in [vec!["/etc/apt/sources.list".to_owned()], listed(host, APT_DIR, gaps)].concat() {
        let Some(text) = read(host, &file, gaps) else { continue };
        if file.ends_with(".sources") {
            places.extend(paragraphs(&text, &arch));
        } else if file.ends_with(".list") {
            let lines = text.lines().map(str::trim).filter(|line| line.starts_with("deb "));
            places.extend(lines.map(|line| place(line, &arch)));
        }
    }
    places
}

/// The repositories of a file in the format deb822.
fn paragraphs(text: &str, arch: &str) -> Vec<Place> {
    let mut places = Vec::new();
    for paragraph in text.split("\n\n") {
        let field = |name: &str| {
            let mut lines = paragraph.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.split_ascii_whitespace().collect::<Vec<_>>())
        };
        let off = field("Enabled").is_some_and(|value| value == ["no"]);
        let binary = field("Types").is_some_and(|types| types.contains(&"deb"));
        if off || !binary {
            continue;
        }
        let components = field("Components").unwrap_or_default();
        for url in field("URIs").unwrap_or_default() {
            for suite in field("Suites").unwrap_or_default() {
                let name = format!("deb {url} {suite} {}", components.join(" "));
                let indexes = of_apt(url, suite, &components, arch);
                places.push(Place { name: name.trim_end().to_owned(), indexes });
            }
        }
    }
    places
}

/// The repositories of `.repo` files.
fn yum(host: &Host, gaps: &mut Gaps) -> Vec<Place> {
    let variables = yum_variables(host, gaps);
    let mut places = Vec::new();
    for file in YUM_DIRS.iter().flat_map(|dir| listed(host, dir, gaps)).collect::<Vec<_>>() {
        if !file.ends_with(".repo") {
            continue;
        }
        let Some(text) = read(host, &file, gaps) else { continue };
        for (section, fields) in sections(&text) {
            let get = |key: &str| fields.get(key).map(|value| filled(value, &variables));
            let off = fields
                .get("enabled")
                .is_some_and(|value| ["0", "no", "false"].contains(&value.as_str()));
            if section == "main" || off {
                continue;
            }
            let base = get("baseurl").into_iter().flat_map(|urls| {
                urls.split([' ', ',', '\n'])
                    .filter(|url| !url.is_empty())
                    .map(of_yum)
                    .collect::<Vec<_>>()
            });
            let lists = ["mirrorlist", "metalink"].into_iter().filter_map(get);
            places.push(Place { name: section, indexes: base.chain(lists).collect() });
        }
    }
    places
}

/// Sections of an INI file: names and values; a line that begins with a space goes on with the value
/// before it.
fn sections(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut all: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut last = String::new();
    for line in text.lines() {
        let plain = line.trim();
        if plain.is_empty() || plain.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = plain.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            all.push((name.to_owned(), BTreeMap::new()));
            continue;
        }
        let Some((_, fields)) = all.last_mut() else { continue };
        if line.starts_with([' ', '\t']) {
            let value = fields.entry(last.clone()).or_default();
            value.push('\n');
            value.push_str(plain);
        } else if let Some((key, value)) = plain.split_once('=') {
            last = key.trim().to_ascii_lowercase();
            fields.insert(last.clone(), value.trim().to_owned());
        }
    }
    all
}

/// What yum and dnf put into URLs: release, architecture, and the files of their `vars`.
fn yum_variables(host: &Host, gaps: &mut Gaps) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    if let Ok(os) = identity::os(host) {
        let major = os.version_id.split('.').next().unwrap_or_default();
        variables.insert("releasever".to_owned(), major.to_owned());
        variables.insert("basearch".to_owned(), os.architecture.clone());
        variables.insert("arch".to_owned(), os.architecture);
    }
    for file in YUM_VARS.iter().flat_map(|dir| listed(host, dir, gaps)).collect::<Vec<_>>() {
        if let Some(value) = read(host, &file, gaps) {
            let name = file.rsplit('/').next().unwrap_or_default();
            let value = value.lines().next().unwrap_or_default().trim().to_owned();
            variables.insert(name.to_owned(), value);
        }
    }
    variables
}

fn filled(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    // The longest names first: `$basearch` must not become what `$base` is.
    let mut names: Vec<_> = variables.iter().collect();
    names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    for (name, value) in names {
        text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
    }
    text
}

/// An address without the name and password that it may have.
fn without_credentials(text: &str) -> String {
    let Some((before, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', ' ']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{before}://{}", &rest[at + 1..]),
        None => text.to_owned(),
    }
}

/// Full paths of the files in a directory; none if it is not there.
fn listed(host: &Host, dir: &str, gaps: &mut Gaps) -> Vec<String> {
    match host.names(dir, FILES_MAX) {
        Ok(names) => names.into_iter().map(|name| format!("{dir}/{name}")).collect(),
        Err(error) if error.is_absence() => Vec::new(),
        Err(error) => {
            gaps.add("repositories", error);
            Vec::new()
        }
    }
}

fn read(host: &Host, file: &str, gaps: &mut Gaps) -> Option<String> {
    match host.text(file, FILE_BYTES_MAX) {
        Ok(text) => Some(text),
        Err(error) if error.is_absence() => None,
        Err(error) => {
            gaps.add("repositories", error);
            None
        }
    }
}

#[cfg(test)]
mod tests;
