//! Asks the real Ansible whether rehull understands inventories as it does, and whether an edit of
//! their order changes the order and nothing else.
//!
//! `SEED` is the first inventory, `INVENTORIES` how many there are; `KEEP` is a directory for them.
//! Those of `tests/inventories/odd` were made by hand: their first line says what is expected.

mod generate;

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use rehull::inventory::{Inventory, with_last};
use rehull_shared::ids::NodeName;
use serde_json::Value;

use self::generate::{Generated, inventory};

/// The groups whose order counts.
const GROUPS: [&str; 3] = ["kube_control_plane", "kube_node", "etcd"];

/// One inventory, and what rehull makes of it.
struct Case {
    name: String,
    text: String,
    last: NodeName,
    inventory: Inventory,
    /// The edited text; why there is none, otherwise.
    edited: Result<String, String>,
}

fn main() -> ExitCode {
    let number = |name: &str, otherwise: u64| match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    };
    let (first, count) = (number("SEED", 1), number("INVENTORIES", 1_000));
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = env::var_os("KEEP").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    fs::create_dir_all(&dir).expect("a directory");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));

    let mut wrong = Vec::new();
    let mut cases = Vec::new();
    let mut tally = BTreeMap::<&str, usize>::new();
    for seed in first..first + count {
        match generated(seed) {
            Ok(case) => cases.push(case),
            Err(why) => wrong.push(format!("seed {seed}: {why}")),
        }
    }
    let odd = odd(&tests.join("inventories/odd"), &mut cases, &mut wrong);
    for case in &cases {
        fs::write(dir.join(&case.name), &case.text).expect("a file");
        if let Ok(edited) = &case.edited {
            fs::write(dir.join(format!("edited-{}", case.name)), edited).expect("a file");
        }
    }
    list(tests, &dir, &cases);
    for case in &cases {
        let compared = compare(&dir, case, &mut tally);
        wrong.extend(compared.err().map(|why| format!("{}: {why}", case.name)));
    }
    println!("{count} generated inventories and {odd} made by hand: {tally:?}");
    for why in wrong.iter().take(10) {
        println!("{why}");
    }
    // Chance that never meets the interesting cases proves nothing.
    let met = |what: &str| tally.get(what).copied().unwrap_or_default();
    let enough = count < 500 || (met("edited") > 50 && met("in order already") > 10);
    match wrong.is_empty() && enough {
        true => ExitCode::SUCCESS,
        false => {
            println!("rehull and Ansible do not agree: {} cases", wrong.len());
            ExitCode::FAILURE
        }
    }
}

fn generated(seed: u64) -> Result<Case, String> {
    let Generated { text, last, merges } = inventory(seed);
    let name = format!("{seed}.yml");
    let inventory = Inventory::parse(&text).map_err(|fault| format!("refused: {fault}\n{text}"))?;
    let last: NodeName = last.parse().expect("a name");
    let edited = with_last(&text, &last).map_err(|fault| fault.to_string());
    match edited {
        Err(why) if !merges => Err(format!("{last} cannot come last: {why}\n{text}")),
        edited => Ok(Case { name, text, last, inventory, edited }),
    }
}

/// Those made by hand. The first line of each: `# understood, NODE last`, `# understood, NODE last
/// is refused: WORDS`, or `# refused: WORDS`.
fn odd(dir: &Path, cases: &mut Vec<Case>, wrong: &mut Vec<String>) -> usize {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    for path in &paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).expect("a file");
        let head = text.lines().next().unwrap_or_default().trim_start_matches("# ").to_owned();
        if let Some(words) = head.strip_prefix("refused: ") {
            match Inventory::parse(&text) {
                Ok(_) => wrong.push(format!("{name}: is understood")),
                Err(fault) if fault.to_string().contains(words) => (),
                Err(fault) => wrong.push(format!("{name}: {fault}")),
            }
            continue;
        }
        let rest =
            head.strip_prefix("understood, ").expect("a first line that says what is expected");
        let (last, rest) = rest.split_once(" last").expect("a node that comes last");
        let last: NodeName = last.parse().expect("a name");
        let inventory = match Inventory::parse(&text) {
            Ok(inventory) => inventory,
            Err(fault) => {
                wrong.push(format!("{name}: {fault}"));
                continue;
            }
        };
        let edited = with_last(&text, &last).map_err(|fault| fault.to_string());
        match (rest.strip_prefix(" is refused: "), &edited) {
            (None, Ok(_)) => (),
            (Some(words), Err(why)) if why.contains(words) => (),
            (_, Ok(_)) => wrong.push(format!("{name}: {last} can come last")),
            (_, Err(why)) => wrong.push(format!("{name}: {why}")),
        }
        cases.push(Case { name, text, last, inventory, edited });
    }
    paths.len()
}

/// Has Ansible list every inventory, before and after.
fn list(tests: &Path, dir: &Path, cases: &[Case]) {
    let python = tests.join("testbed/.cache/venv/bin/python");
    let mut ansible = Command::new(&python)
        .arg(tests.join("inventories/list.py"))
        .current_dir(dir)
        .env_remove("ANSIBLE_CONFIG")
        .stdin(Stdio::piped())
        .stderr(fs::File::create(dir.join("ansible.log")).expect("a file"))
        .spawn()
        .unwrap_or_else(|why| {
            panic!("{}: {why}; tests/testbed/setup.sh makes it", python.display())
        });
    let mut paths = ansible.stdin.take().expect("a pipe");
    for case in cases {
        writeln!(paths, "{}", dir.join(&case.name).display()).expect("a reader");
        if case.edited.is_ok() {
            writeln!(paths, "{}", dir.join(format!("edited-{}", case.name)).display())
                .expect("a reader");
        }
    }
    drop(paths);
    assert!(ansible.wait().expect("its end").success(), "ansible-inventory failed");
}

fn listed(dir: &Path, name: &str) -> Value {
    let path = dir.join(format!("{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

fn compare(dir: &Path, case: &Case, tally: &mut BTreeMap<&str, usize>) -> Result<(), String> {
    let before = listed(dir, &case.name);
    let mut meant = before.clone();
    for (group, hosts) in case.inventory.groups() {
        let hosts: Vec<&str> = hosts.iter().map(NodeName::as_str).collect();
        let seen = &before[group]["hosts"];
        if *seen != serde_json::json!(hosts) {
            return Err(format!(
                "{group} is {hosts:?} for rehull, {seen} for Ansible\n{}",
                case.text
            ));
        }
        let list = meant[group]["hosts"].as_array_mut().expect("hosts");
        if let Some(place) = list.iter().position(|name| name == case.last.as_str()) {
            list[place..].rotate_left(1);
        }
    }
    for host in &case.inventory.hosts {
        let seen = &before["_meta"]["hostvars"][host.name.as_str()];
        for (key, value) in [("ip", &host.ip), ("ansible_host", &host.ansible_host)] {
            if seen[key].as_str() != value.as_deref() {
                return Err(format!(
                    "{key} of {} is {value:?}, {} for Ansible",
                    host.name, seen[key]
                ));
            }
        }
    }
    let what = match &case.edited {
        Err(_) => "refused to edit",
        Ok(edited) => {
            let after = listed(dir, &format!("edited-{}", case.name));
            if after != meant {
                let groups: Vec<&Value> =
                    GROUPS.iter().map(|group| &after[*group]["hosts"]).collect();
                return Err(format!("edited, Ansible sees {groups:?}\n{}\n{edited}", case.text));
            }
            let sorted = |text: &str| {
                let mut bytes = text.as_bytes().to_vec();
                bytes.retain(|byte| !byte.is_ascii_whitespace());
                bytes.sort_unstable();
                bytes
            };
            if sorted(edited) != sorted(&case.text) {
                return Err(format!("text was lost or made up\n{}\n{edited}", case.text));
            }
            if *edited == case.text { "in order already" } else { "edited" }
        }
    };
    *tally.entry(what).or_default() += 1;
    Ok(())
}
