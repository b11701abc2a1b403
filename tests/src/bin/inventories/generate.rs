//! Inventories as people write them, by chance: every style of YAML that an operator's editor, a
//! template or a tool leaves behind.

use std::fmt::Write as _;

use rehull_tests::chance::Chance;

/// An inventory.
pub(crate) struct Generated {
    /// Its text.
    pub(crate) text: String,
    /// The control plane that is to come last.
    pub(crate) last: String,
    /// Whether its order may be impossible to change by moving text: it uses merge keys.
    pub(crate) merges: bool,
}

/// How a list of hosts is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// One host a line.
    Block,
    /// In braces, on one line.
    Flow,
    /// In braces, over several lines.
    Lines,
}

struct Writer {
    chance: Chance,
    text: String,
    /// Blanks of one level.
    step: usize,
}

/// The inventory of a seed.
pub(crate) fn inventory(seed: u64) -> Generated {
    let mut chance = Chance(seed);
    let masters = names(&mut chance, &["master", "m", "cp-", "node-", "k8s.m"], 1 + 2);
    let workers = names(&mut chance, &["worker", "w", "gpu-", "worker-10.0.0."], 5);
    let step = if chance.percent(80) { 2 } else { 4 };
    let mut writer = Writer { chance, text: String::new(), step };
    let merges = writer.whole(&masters, &workers);
    let Writer { mut chance, mut text, .. } = writer;
    if chance.percent(10) {
        text.truncate(text.trim_end().len());
    }
    if chance.percent(10) {
        text = text.replace('\n', "\r\n");
    }
    let last = masters[chance.below(masters.len() as u64) as usize].clone();
    Generated { text, last, merges }
}

fn names(chance: &mut Chance, prefixes: &[&str], most: u64) -> Vec<String> {
    let prefix = chance.one(prefixes).to_owned();
    let first = chance.below(12);
    let count = 1 + chance.below(most);
    (first..first + count).map(|number| format!("{prefix}{number}")).collect()
}

impl Writer {
    fn line(&mut self, depth: usize, text: &str) {
        if self.chance.percent(5) {
            self.text.push('\n');
        }
        if self.chance.percent(6) {
            let note = self.chance.one(&["# a note", "#- {m1: }", "# ü: \"", "#"]).to_owned();
            let depth = self.chance.below(4) as usize;
            self.raw(depth, &note);
        }
        let comment = match self.chance.percent(8) {
            true => self.chance.one(&[" # rack 7", "   # m1:", " #"]).to_owned(),
            false => String::new(),
        };
        self.raw(depth, &format!("{text}{comment}"));
    }

    fn raw(&mut self, depth: usize, text: &str) {
        let blanks = depth * self.step;
        writeln!(self.text, "{:blanks$}{text}", "").expect("text takes everything");
    }

    fn shuffled(&mut self, names: &[String]) -> Vec<String> {
        let mut names = names.to_vec();
        for place in (1..names.len()).rev() {
            names.swap(place, self.chance.below(place as u64 + 1) as usize);
        }
        names
    }

    fn quoted(&mut self, name: &str) -> String {
        match self.chance.below(10) {
            0 => format!("'{name}'"),
            1 => format!("\"{name}\""),
            _ => name.to_owned(),
        }
    }

    fn whole(&mut self, masters: &[String], workers: &[String]) -> bool {
        if self.chance.percent(30) {
            self.raw(0, "---");
        }
        self.line(0, "all:");
        let hosts_first = self.chance.percent(80);
        if hosts_first {
            self.hosts(masters, workers);
        }
        if self.chance.percent(40) {
            self.vars();
        }
        let merges = self.groups(masters, workers);
        if !hosts_first {
            self.hosts(masters, workers);
        }
        if self.chance.percent(3) {
            self.raw(0, "...");
        }
        merges
    }

    fn hosts(&mut self, masters: &[String], workers: &[String]) {
        let all: Vec<String> = masters.iter().chain(workers).cloned().collect();
        let all = self.shuffled(&all);
        let anchored = self.chance.percent(15);
        self.line(1, "hosts:");
        for (number, name) in all.iter().enumerate() {
            let key = self.quoted(name);
            let ip = format!("10.0.{}.{}", number / 200, number % 200 + 1);
            let own = format!("ip: {ip}, ansible_host: {ip}");
            match (anchored, number) {
                (true, 0) => {
                    self.line(2, &format!("{key}: &common {{ansible_user: root, {own}}}"));
                }
                (true, _) => self.line(2, &format!("{key}: {{<<: *common, {own}}}")),
                (false, _) if self.chance.percent(30) => self.line(2, &format!("{key}: {{{own}}}")),
                (false, _) if self.chance.percent(5) => self.line(2, &format!("{key}:")),
                (false, _) => {
                    self.line(2, &format!("{key}:"));
                    self.line(3, &format!("ip: {ip}"));
                    self.line(3, &format!("ansible_host: \"{ip}\""));
                    if self.chance.percent(20) {
                        self.line(3, "node_labels: {zone: a, 'm1': \"m2:\"}");
                    }
                }
            }
        }
    }

    fn vars(&mut self) {
        self.line(1, "vars:");
        self.line(2, "note: \"m1: {}\"");
        if self.chance.percent(50) {
            self.raw(2, "ansible_become_password: !vault |");
            for line in ["$ANSIBLE_VAULT;1.1;AES256", "61626364", "6d313a"] {
                self.raw(3, line);
            }
        }
        if self.chance.percent(30) {
            self.raw(2, "motd: >-");
            self.raw(3, "# no comment");
            self.raw(3, "kube_control_plane:");
        }
    }

    /// The groups. Says whether a list is made with merge keys.
    fn groups(&mut self, masters: &[String], workers: &[String]) -> bool {
        self.line(1, "children:");
        let masters = self.shuffled(masters);
        let members = match self.chance.percent(80) {
            true => masters.clone(),
            false => {
                let mut some = self.shuffled(&masters);
                some.truncate(1 + self.chance.below(some.len() as u64) as usize);
                some
            }
        };
        let with_masters = self.chance.percent(70);
        let shared = members == masters && self.chance.percent(15);
        let merged = shared && with_masters && self.chance.percent(40);
        let mut nodes: Vec<String> = workers.to_vec();
        if with_masters && !merged {
            nodes.splice(0..0, masters.iter().cloned());
        }
        if !merged && self.chance.percent(20) {
            nodes = self.shuffled(&nodes);
        }
        let anchor = if shared { " &masters" } else { "" };
        let nested = self.chance.percent(30);
        let depth = if nested { 4 } else { 2 };
        if nested {
            self.line(2, "k8s_cluster:");
            self.line(3, "children:");
        }
        let nodes_first = !shared && self.chance.percent(30);
        if nodes_first {
            self.group(depth, "kube_node", "", "", &nodes);
        }
        self.group(depth, "kube_control_plane", anchor, "", &masters);
        if !nodes_first {
            self.group(depth, "kube_node", "", if merged { "<<: *masters" } else { "" }, &nodes);
        }
        match shared {
            true => {
                self.line(2, "etcd:");
                self.line(3, "hosts: *masters");
            }
            false => self.group(2, "etcd", "", "", &members),
        }
        if self.chance.percent(20) {
            self.group(2, "gpu", "", "", workers);
        }
        if !nested {
            self.line(2, "k8s_cluster:");
            let style = self.chance.percent(50);
            match style {
                true => self.line(3, "children: {kube_control_plane: , kube_node: }"),
                false => {
                    self.line(3, "children:");
                    self.line(4, "kube_node:");
                    self.line(4, "kube_control_plane: {}");
                }
            }
        }
        if self.chance.percent(30) {
            self.line(2, "calico_rr:");
            self.line(3, "hosts: {}");
        }
        merged
    }

    fn group(&mut self, depth: usize, name: &str, anchor: &str, merge: &str, hosts: &[String]) {
        let styles = [Style::Block, Style::Block, Style::Flow, Style::Lines];
        let style = styles[self.chance.below(4) as usize];
        self.line(depth, &format!("{name}:"));
        let separators = [", ", ",", " , "];
        let separator = separators[self.chance.below(3) as usize];
        let bare = self.chance.percent(15);
        let mut items: Vec<String> = hosts
            .iter()
            .map(|host| {
                let key = self.quoted(host);
                let nothing = self.chance.one(&["", "", "", " null", " ~", " {}"]).to_owned();
                match (style, bare, nothing.as_str()) {
                    (Style::Block, ..) => format!("{key}:{nothing}"),
                    (_, true, _) => key,
                    // A colon and a comma side by side would be a part of the name.
                    (_, _, "") => format!("{key}: "),
                    _ => format!("{key}:{nothing}"),
                }
            })
            .collect();
        if !merge.is_empty() {
            let place = self.chance.below(items.len() as u64 + 1) as usize;
            items.insert(place, merge.to_owned());
        }
        match style {
            Style::Block => {
                self.line(depth + 1, &format!("hosts:{anchor}"));
                for item in &items {
                    self.line(depth + 2, item);
                }
            }
            Style::Flow => {
                let items = items.join(separator);
                self.line(depth + 1, &format!("hosts:{anchor} {{{items}}}"));
            }
            Style::Lines => {
                self.raw(depth + 1, &format!("hosts:{anchor} {{"));
                let count = items.len();
                for (number, item) in items.iter().enumerate() {
                    let comma = if number + 1 < count { "," } else { "" };
                    self.line(depth + 2, &format!("{item}{comma}"));
                }
                self.raw(depth + 1, "}");
            }
        }
        if self.chance.percent(10) {
            self.line(depth + 1, "vars: {of_group: true}");
        }
    }
}
