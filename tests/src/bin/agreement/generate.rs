//! Makes clusters up: small, unlike each other, and about as often too full for one node less as
//! not. The same seed makes the same cluster.

use std::collections::BTreeSet;

use rehull_tests::chance::Chance;
use serde_json::{Value, json};

/// Where pods are; the labels of namespaces are the same in all clusters.
pub(crate) const NAMESPACES: [&str; 3] = ["red", "green", "blue"];

const HOST: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
const DRIVER: &str = "csi.example.com";
const GPU: &str = "example.com/gpu";

/// A cluster that is made up.
pub(crate) struct Cluster {
    /// Nodes and volumes.
    pub(crate) objects: Vec<Value>,
    /// Pods, in the order in which they are created.
    pub(crate) pods: Vec<Value>,
    /// Nodes that are not to be drained: cordoned before, or not Ready.
    pub(crate) closed: BTreeSet<String>,
    /// Whether the pods of the drained node are replaced one by one, or all of them at once.
    pub(crate) one_by_one: bool,
    /// Whether the node with the fewest pods is drained, or any.
    pub(crate) fewest: bool,
    /// What chooses between nodes.
    pub(crate) chance: Chance,
}

/// What all clusters share.
pub(crate) fn common() -> Vec<Value> {
    let namespace = |(name, team)| {
        json!({"kind": "Namespace", "apiVersion": "v1",
            "metadata": {"name": name, "labels": {"team": team}}})
    };
    let class = |(name, value, policy)| {
        json!({"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1",
            "metadata": {"name": name}, "value": value, "preemptionPolicy": policy})
    };
    let mut all: Vec<Value> = NAMESPACES.into_iter().zip(["a", "a", "b"]).map(namespace).collect();
    let (may, never) = ("PreemptLowerPriority", "Never");
    all.extend([("low", -10, may), ("high", 1000, may), ("polite", 500, never)].map(class));
    all.push(json!({"kind": "RuntimeClass", "apiVersion": "node.k8s.io/v1", "handler": "boxed",
        "metadata": {"name": "boxed"}, "overhead": {"podFixed": {"cpu": "150m", "memory": "64Mi"}}}));
    all
}

/// `namespace/name` of a pod.
pub(crate) fn name(pod: &Value) -> String {
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

/// Makes the cluster of a seed up.
pub(crate) fn cluster(seed: u64) -> Cluster {
    let mut chance = Chance(seed);
    let nodes = 3 + chance.below(6);
    let by_hand = chance.percent(20);
    let mut maker = Maker {
        seed,
        zones: 2 + chance.below(2),
        scale: 10 + chance.below(80),
        few_slots: chance.percent(20),
        theme: seed % (FEATURES.len() as u64 + VOLUMES),
        nodes: Vec::new(),
        volumes: Vec::new(),
        closed: BTreeSet::new(),
        pods: Vec::new(),
        apps: 0,
        chance,
    };
    let mut objects: Vec<Value> = (0..nodes).map(|number| maker.node(number)).collect();
    let limits = maker.chance.percent(50).then(|| maker.limits());
    objects.extend(limits.into_iter().flatten());
    (0..maker.chance.below(3)).for_each(|number| maker.daemons(number));
    let more = if maker.chance.percent(50) { 10 } else { 45 };
    let pods = 10 + maker.chance.below(more) as usize;
    while maker.pods.len() < pods {
        maker.workload(by_hand);
    }
    let Maker { mut chance, volumes, closed, pods, .. } = maker;
    objects.extend(volumes);
    objects.sort_by_key(|object| object["kind"].to_string());
    let (one_by_one, fewest) = (chance.percent(40), chance.percent(50));
    Cluster { objects, pods, closed, one_by_one, fewest, chance }
}

struct Maker {
    seed: u64,
    chance: Chance,
    zones: u64,
    /// How much pods ask for, in percent.
    scale: u64,
    few_slots: bool,
    /// What most workloads of the cluster ask for: a place in [`FEATURES`], or behind them a kind of
    /// volumes.
    theme: u64,
    nodes: Vec<String>,
    volumes: Vec<Value>,
    closed: BTreeSet<String>,
    pods: Vec<Value>,
    apps: u64,
}

impl Maker {
    fn node(&mut self, number: u64) -> Value {
        let chance = &mut self.chance;
        let name = format!("n{}-{number}", self.seed);
        let mut labels = json!({HOST: name, "disk": chance.one(&["ssd", "hdd"]),
            "rack": format!("r{}", chance.below(3)), "cores": (2 + chance.below(6)).to_string()});
        if chance.percent(94) {
            labels[ZONE] = json!(format!("z{}", chance.below(self.zones)));
        }
        let mut taints = Vec::new();
        if chance.percent(15) {
            taints.push(json!({"key": "dedicated", "value": chance.one(&["batch", "web"]),
                "effect": "NoSchedule"}));
        }
        if chance.percent(8) {
            taints.push(json!({"key": "quiet", "effect": "NoExecute"}));
        }
        if chance.percent(10) {
            taints.push(json!({"key": "old", "effect": "PreferNoSchedule"}));
        }
        let (ready, cordoned) = (chance.percent(96), chance.percent(4));
        if !ready {
            let taint = |effect| json!({"key": "node.kubernetes.io/not-ready", "effect": effect});
            taints.extend(["NoSchedule", "NoExecute"].map(taint));
        }
        if cordoned {
            taints.push(json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}));
        }
        if cordoned || !ready {
            self.closed.insert(name.clone());
        }
        let slots = if self.few_slots { 5 + chance.below(6) } else { 110 };
        let mut allocatable = json!({
            "cpu": format!("{}m", 2000 + 500 * chance.below(13)),
            "memory": format!("{}Mi", 4096 + 1024 * chance.below(13)),
            "ephemeral-storage": format!("{}Gi", 20 + chance.below(40)),
            "pods": slots.to_string(),
        });
        if chance.percent(40) {
            allocatable[GPU] = json!((1 + chance.below(4)).to_string());
        }
        self.nodes.push(name.clone());
        let ready = if ready { "True" } else { "False" };
        json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "labels": labels},
            "spec": {"unschedulable": cordoned, "taints": taints},
            "status": {"allocatable": allocatable, "capacity": allocatable,
                "conditions": [{"type": "Ready", "status": ready}]}})
    }

    /// How many volumes of a driver nodes can have.
    fn limits(&mut self) -> Vec<Value> {
        let chance = &mut self.chance;
        let limit = |node: &String| {
            json!({"kind": "CSINode", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": node},
                "spec": {"drivers": [{"name": DRIVER, "nodeID": node, "topologyKeys": [],
                    "allocatable": {"count": 1 + chance.below(4)}}]}})
        };
        self.nodes.iter().map(limit).collect()
    }

    /// A pod on every node, which goes with it.
    fn daemons(&mut self, number: u64) {
        let port = 9000 + number;
        for (place, node) in self.nodes.clone().into_iter().enumerate() {
            let mut pod = self.pod("red", &format!("daemon{number}"), "DaemonSet", place as u64);
            pod["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
            let here = json!([{"key": "metadata.name", "operator": "In", "values": [node]}]);
            let terms = json!({"nodeSelectorTerms": [{"matchFields": here}]});
            pod["spec"]["affinity"] = json!({"nodeAffinity": required(terms)});
            pod["spec"]["containers"] = json!([{"name": "c", "image": "i",
                "ports": [{"containerPort": port, "hostPort": port}],
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}}]);
            self.pods.push(pod);
        }
    }

    fn pod(&self, namespace: &str, app: &str, owner: &str, number: u64) -> Value {
        json!({"kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": format!("{app}-{}-{number}", self.seed), "namespace": namespace,
                "labels": {"app": app},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": owner, "name": app,
                    "uid": app, "controller": true}]},
            "spec": {"terminationGracePeriodSeconds": 0}})
    }

    /// Pods that are alike, but for their volumes.
    fn workload(&mut self, by_hand: bool) {
        let app = format!("app{}", self.apps);
        let namespace = self.chance.one(&NAMESPACES);
        let owner = self.chance.one(&["ReplicaSet", "ReplicaSet", "StatefulSet"]);
        let replicas = 1 + self.chance.below(6);
        let mut like = self.pod(namespace, &app, owner, 0);
        like["metadata"]["labels"]["tier"] = json!(self.chance.one(&["front", "back"]));
        like["metadata"]["labels"]["version"] = json!(self.chance.one(&["1", "2"]));
        like["spec"]["containers"] = json!([self.container("c")]);
        let is_typical = self.chance.percent(60);
        if let Some(feature) = FEATURES.get(self.theme as usize).filter(|_| is_typical) {
            feature(self, &mut like["spec"]);
        }
        for _ in 0..self.chance.below(3) {
            let feature = FEATURES[self.chance.below(FEATURES.len() as u64) as usize];
            feature(self, &mut like["spec"]);
        }
        if self.chance.percent(4) {
            like["metadata"]["ownerReferences"] = json!([]);
        }
        let has_volume = self.chance.percent(8);
        let volume = match self.theme.checked_sub(FEATURES.len() as u64) {
            Some(kind) if is_typical => Some(kind),
            _ => has_volume.then(|| self.chance.below(VOLUMES)),
        };
        let mut claim = String::new();
        for number in 0..replicas {
            let mut pod = like.clone();
            let name = format!("{app}-{}-{number}", self.seed);
            pod["metadata"]["name"] = json!(name);
            if let Some(kind) = volume {
                if claim.is_empty() || kind != 3 {
                    claim = self.volume(namespace, &name, kind); // else they share one
                }
                pod["spec"]["volumes"] =
                    json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]);
            }
            if by_hand {
                pod["spec"]["nodeName"] = json!(self.some_node());
                pod["spec"]["schedulingGates"] = json!([]);
                // Only such a pod can have got by without a volume.
                if self.chance.percent(2) {
                    pod["spec"]["volumes"] =
                        json!([{"name": "v", "persistentVolumeClaim": {"claimName": "none"}}]);
                }
                if self.chance.percent(2) {
                    let mirror = json!({"kubernetes.io/config.mirror": "hash"});
                    pod["metadata"]["annotations"] = mirror;
                    pod["spec"]["volumes"] = json!([]);
                }
            }
            self.pods.push(pod);
        }
        self.apps += 1;
    }

    fn container(&mut self, name: &str) -> Value {
        let (cpu, memory) = (1 + self.chance.below(16), 1 + self.chance.below(16));
        let requests = json!({"cpu": format!("{}m", cpu * self.scale),
            "memory": format!("{}Mi", 2 * memory * self.scale)});
        let requests = if self.chance.percent(92) { requests } else { json!({}) };
        json!({"name": name, "image": "i", "resources": {"requests": requests}})
    }

    fn some_node(&mut self) -> String {
        self.nodes[self.chance.below(self.nodes.len() as u64) as usize].clone()
    }

    fn some_nodes(&mut self, most: u64) -> Vec<String> {
        (0..=self.chance.below(most)).map(|_| self.some_node()).collect()
    }

    fn some_zone(&mut self) -> String {
        format!("z{}", self.chance.below(self.zones))
    }

    /// Makes a volume with its claim, and names the claim.
    fn volume(&mut self, namespace: &str, name: &str, kind: u64) -> String {
        let mut volume = json!({"kind": "PersistentVolume", "apiVersion": "v1",
            "metadata": {"name": name, "labels": {}},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"],
                "claimRef": {"namespace": namespace, "name": name}}});
        let spec = &mut volume["spec"];
        if kind == 0 {
            spec["local"] = json!({"path": "/data"});
            let hosts = json!({"key": HOST, "operator": "In", "values": self.some_nodes(4)});
            spec["nodeAffinity"] =
                json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [hosts]}]}});
        } else {
            spec["csi"] = json!({"driver": DRIVER, "volumeHandle": name});
            if kind == 1 {
                let (one, other) = (self.some_zone(), self.some_zone());
                let zones = if self.chance.percent(50) { one } else { format!("{one}__{other}") };
                volume["metadata"]["labels"][ZONE] = json!(zones);
            }
        }
        let done = json!({"pv.kubernetes.io/bind-completed": "yes"});
        let claim = json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "metadata": {"name": name, "namespace": namespace, "annotations": done},
            "spec": {"volumeName": name, "storageClassName": "", "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "1Gi"}}}});
        self.volumes.extend([volume, claim]);
        name.to_owned()
    }

    fn tolerations(&mut self, spec: &mut Value) {
        spec["tolerations"] = match self.chance.below(9) {
            0..3 => json!([{"key": "dedicated", "operator": "Exists"}]),
            3..5 => json!([{"key": "dedicated", "value": "batch", "effect": "NoSchedule"}]),
            5 | 6 => json!([{"key": "dedicated", "value": "web"}, {"key": "quiet", "value": ""}]),
            7 => json!([{"operator": "Exists", "effect": "NoExecute"}]),
            _ => json!([{"operator": "Exists"}]),
        };
    }

    fn node_selector(&mut self, spec: &mut Value) {
        spec["nodeSelector"] = match self.chance.below(8) {
            0..3 => json!({ZONE: self.some_zone()}),
            3..6 => json!({"disk": self.chance.one(&["ssd", "hdd"])}),
            6 => json!({HOST: self.some_node()}),
            _ => json!({"disk": "ssd", ZONE: self.some_zone()}),
        };
    }

    fn node_affinity(&mut self, spec: &mut Value) {
        let terms: Vec<Value> = (0..=self.chance.below(2)).map(|_| self.node_term()).collect();
        spec["affinity"]["nodeAffinity"] = required(json!({"nodeSelectorTerms": terms}));
    }

    fn node_term(&mut self) -> Value {
        let cores = (2 + self.chance.below(5)).to_string();
        let one = match self.chance.below(8) {
            0 => json!({"key": ZONE, "operator": "In", "values": [self.some_zone()]}),
            1 => json!({"key": ZONE, "operator": "NotIn", "values": [self.some_zone()]}),
            2 => json!({"key": ZONE, "operator": "Exists"}),
            3 => json!({"key": "disk", "operator": "In", "values": ["ssd", "nvme"]}),
            4 => json!({"key": "cores", "operator": "Gt", "values": [cores]}),
            5 => json!({"key": "cores", "operator": "Lt", "values": [cores]}),
            6 => json!({"key": HOST, "operator": "NotIn", "values": self.some_nodes(3)}),
            _ => json!({"key": HOST, "operator": "In", "values": self.some_nodes(4)}),
        };
        let disk = json!({"key": "disk", "operator": "DoesNotExist"});
        match self.chance.below(10) {
            0 => json!({"matchExpressions": [one, disk]}),
            2 => json!({"matchFields": [{"key": "metadata.name", "operator": "In",
                "values": [self.some_node()]}]}),
            1 => {
                let others = json!({"key": "metadata.name", "operator": "NotIn",
                    "values": [self.some_node()]});
                json!({"matchExpressions": [one], "matchFields": [others]})
            }
            _ => json!({"matchExpressions": [one]}),
        }
    }

    /// Which pods: those of one workload, of several, or with another label.
    fn some_pods(&mut self, own: bool) -> Value {
        let this = self.apps;
        let other = self.chance.below(this + 1);
        let app = |number| format!("app{number}");
        match self.chance.below(20) {
            0 => json!({}),
            1..4 => json!({"matchLabels": {"tier": self.chance.one(&["front", "back"])}}),
            4..7 => json!({"matchExpressions": [{"key": "app", "operator": "In",
                "values": [app(this), app(other)]}]}),
            7..10 => json!({"matchLabels": {"app": app(this)}, "matchExpressions":
                [{"key": "tier", "operator": "NotIn", "values": ["back"]}]}),
            _ if own => json!({"matchLabels": {"app": app(this)}}),
            _ => json!({"matchLabels": {"app": app(other)}}),
        }
    }

    fn pod_term(&mut self, own: bool) -> Value {
        let topology = self.chance.one(&[HOST, HOST, ZONE, "rack"]);
        let mut term = json!({"topologyKey": topology, "labelSelector": self.some_pods(own)});
        match self.chance.below(8) {
            0 => term["namespaces"] = json!([self.chance.one(&NAMESPACES)]),
            1 => term["namespaceSelector"] = json!({}),
            2 => term["namespaceSelector"] = json!({"matchLabels": {"team": "a"}}),
            3 => term["matchLabelKeys"] = json!(["version"]),
            4 => term["mismatchLabelKeys"] = json!(["version"]),
            _ => (),
        }
        term
    }

    fn pod_terms(&mut self, own: u64) -> Value {
        let more = u64::from(self.chance.percent(20));
        (0..=more)
            .map(|_| self.chance.percent(own))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|own| self.pod_term(own))
            .collect()
    }

    fn apart(&mut self, spec: &mut Value) {
        spec["affinity"]["podAntiAffinity"] = required(self.pod_terms(60));
    }

    fn near(&mut self, spec: &mut Value) {
        spec["affinity"]["podAffinity"] = required(self.pod_terms(80));
    }

    /// What the scheduler prefers, and no filter looks at.
    fn preferred(&mut self, spec: &mut Value) {
        let pods = json!({"weight": 100, "podAffinityTerm": self.pod_term(true)});
        let nodes = json!({"weight": 100, "preference": {"matchExpressions":
            [{"key": HOST, "operator": "In", "values": [self.some_node()]}]}});
        let (near, key) = match self.chance.below(3) {
            0 => ("podAffinity", pods),
            1 => ("podAntiAffinity", pods),
            _ => ("nodeAffinity", nodes),
        };
        spec["affinity"][near]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([key]);
    }

    fn spread(&mut self, spec: &mut Value) {
        let topologies = [HOST, ZONE, "rack"];
        let first = self.chance.below(3) as usize;
        let more = usize::from(self.chance.percent(25));
        let topologies = (first..=first + more).map(|place| topologies[place % 3]);
        spec["topologySpreadConstraints"] = topologies.map(|one| self.spread_over(one)).collect();
    }

    fn spread_over(&mut self, topology: &str) -> Value {
        let mut spread = json!({"topologyKey": topology, "maxSkew": 1 + self.chance.below(3),
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": self.some_pods(true)});
        if self.chance.percent(25) {
            spread["minDomains"] = json!(1 + self.chance.below(4));
        }
        if self.chance.percent(25) {
            spread["matchLabelKeys"] = json!(["version"]);
        }
        let policies = ["Honor", "Ignore"];
        if self.chance.percent(50) {
            spread["nodeAffinityPolicy"] = json!(self.chance.one(&policies));
            spread["nodeTaintsPolicy"] = json!(self.chance.one(&policies));
        }
        spread
    }

    fn ports(&mut self, spec: &mut Value) {
        let port = 8080 + self.chance.below(2);
        let mut port = json!({"containerPort": port, "hostPort": port,
            "protocol": self.chance.one(&["TCP", "TCP", "UDP"])});
        if self.chance.percent(30) {
            port["hostIP"] = json!(self.chance.one(&["127.0.0.1", "127.0.0.2"]));
        }
        let containers = if spec["initContainers"][0]["restartPolicy"].is_string() {
            "initContainers"
        } else {
            "containers"
        };
        spec[containers][0]["ports"] = json!([port]);
    }

    fn init_containers(&mut self, spec: &mut Value) {
        let mut all = Vec::new();
        for number in 0..=self.chance.below(3) {
            let mut container = self.container(&format!("i{number}"));
            if self.chance.percent(40) {
                container["restartPolicy"] = json!("Always");
            }
            all.push(container);
        }
        spec["initContainers"] = json!(all);
        spec["resources"] = json!(null);
    }

    fn more_containers(&mut self, spec: &mut Value) {
        let all = [spec["containers"][0].clone(), self.container("d")];
        spec["containers"] = json!(all);
        if self.chance.percent(40) {
            spec["runtimeClassName"] = json!("boxed");
        }
        if self.chance.percent(30) && spec["initContainers"].is_null() {
            let cpu = format!("{}m", 40 * self.scale);
            let memory = format!("{}Mi", 200 * self.scale);
            spec["resources"] = json!({"requests": {"cpu": cpu, "memory": memory}});
        }
    }

    fn other_resources(&mut self, spec: &mut Value) {
        let resources = &mut spec["containers"][0]["resources"];
        if self.chance.percent(50) {
            resources["requests"][GPU] = json!("1");
            resources["limits"] = json!({GPU: "1"});
        } else {
            let disk = 2 + self.chance.below(16);
            resources["requests"]["ephemeral-storage"] = json!(format!("{disk}Gi"));
        }
    }

    fn priority(&mut self, spec: &mut Value) {
        spec["priorityClassName"] = json!(self.chance.one(&["low", "high", "polite"]));
    }

    fn gate(&mut self, spec: &mut Value) {
        if self.chance.percent(20) {
            spec["schedulingGates"] = json!([{"name": "example.com/later"}]);
        }
    }
}

/// What pods ask for besides processors and memory.
const FEATURES: [fn(&mut Maker, &mut Value); 13] = [
    Maker::tolerations,
    Maker::node_selector,
    Maker::node_affinity,
    Maker::apart,
    Maker::near,
    Maker::spread,
    Maker::ports,
    Maker::init_containers,
    Maker::more_containers,
    Maker::other_resources,
    Maker::priority,
    Maker::preferred,
    Maker::gate,
];

/// Kinds of volumes: on the disks of some hosts, in a zone, of a driver, and one that pods share.
const VOLUMES: u64 = 4;

fn required(terms: Value) -> Value {
    json!({"requiredDuringSchedulingIgnoredDuringExecution": terms})
}
