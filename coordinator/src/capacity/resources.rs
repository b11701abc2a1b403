//! What pods take of nodes: processors, memory, disk, extended resources, volumes of a driver.
//!
//! Reckoned as the scheduler does: `k8s.io/component-helpers/resource/helpers.go`, `PodRequests`.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::{
    api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{
    quantity,
    symbols::{Symbol, Symbols},
};

/// A kind of resource, as a place in [`Dimensions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Dimension(u16);

/// Thousandths of a processor.
pub(super) const CPU: Dimension = Dimension(0);
/// Bytes.
pub(super) const MEMORY: Dimension = Dimension(1);
/// Bytes.
const EPHEMERAL: Dimension = Dimension(2);

/// What a container without requests counts for when nodes are compared, as in the scheduler's
/// `util/pod_resources.go`; it takes no room.
const UNASKED: [(Dimension, i64); 2] = [(CPU, 100), (MEMORY, 200 << 20)];

/// Every kind of resource of a snapshot. Volumes that a driver can attach to a node are one, too.
#[derive(Debug)]
pub(super) struct Dimensions {
    names: Vec<Name>,
    known: HashMap<Name, Dimension>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Name {
    Resource(Symbol),
    Volumes(Symbol),
}

impl Dimensions {
    /// The ones that every cluster has.
    pub(super) fn new(symbols: &mut Symbols) -> Self {
        let mut new = Self { names: Vec::new(), known: HashMap::new() };
        for name in ["cpu", "memory", "ephemeral-storage"] {
            new.of(Name::Resource(symbols.of(name)));
        }
        new
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Dimension> + use<> {
        (0..self.names.len()).map(|place| Dimension(place as u16))
    }

    /// The volumes of one CSI driver.
    pub(super) fn volumes(&mut self, driver: Symbol) -> Dimension {
        self.of(Name::Volumes(driver))
    }

    /// Why a node without enough of it refuses a pod, in the scheduler's words.
    pub(super) fn shortage(&self, dimension: Dimension, symbols: &Symbols) -> String {
        match self.names[dimension.place()] {
            Name::Resource(name) => format!("Insufficient {}", symbols.text(name)),
            Name::Volumes(_) => "node(s) exceed max volume count".to_owned(),
        }
    }

    /// Whether it is a number of volumes: other filters come before it.
    pub(super) fn is_volumes(&self, dimension: Dimension) -> bool {
        matches!(self.names[dimension.place()], Name::Volumes(_))
    }

    fn of(&mut self, name: Name) -> Dimension {
        *self.known.entry(name).or_insert_with(|| {
            let place = u16::try_from(self.names.len()).expect("fewer than 65536 resources");
            self.names.push(name);
            Dimension(place)
        })
    }
}

impl Dimension {
    /// Its place in [`Dimensions`].
    pub(super) fn place(self) -> usize {
        self.0.into()
    }
}

/// Amounts of several resources, sorted; what is missing is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Amounts(Vec<(Dimension, i64)>);

type Quantities = BTreeMap<String, Quantity>;

impl Amounts {
    /// Those of a resource list that the scheduler knows: `pods` and names without a domain, which
    /// are no resources of pods, are left out. An amount that cannot be read is `unread`.
    pub(super) fn read(
        quantities: Option<&Quantities>,
        unread: i64,
        symbols: &mut Symbols,
        dimensions: &mut Dimensions,
    ) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in quantities.into_iter().flatten() {
            let scalar = name.contains('/')
                || name.starts_with("hugepages-")
                || name.starts_with("attachable-volumes-");
            let amount = match name.as_str() {
                "cpu" => quantity::thousandths(&quantity.0),
                _ => quantity::units(&quantity.0),
            };
            let dimension = match name.as_str() {
                "cpu" => CPU,
                "memory" => MEMORY,
                "ephemeral-storage" => EPHEMERAL,
                name if scalar => dimensions.of(Name::Resource(symbols.of(name))),
                _ => continue,
            };
            amounts.set(dimension, amount.unwrap_or(unread));
        }
        amounts
    }

    /// How much of one.
    pub(super) fn get(&self, dimension: Dimension) -> i64 {
        self.find(dimension).map_or(0, |place| self.0[place].1)
    }

    /// Replaces one.
    pub(super) fn set(&mut self, dimension: Dimension, amount: i64) {
        match self.find(dimension) {
            Some(place) => self.0[place].1 = amount,
            None => {
                let place = self.0.partition_point(|one| one.0 < dimension);
                self.0.insert(place, (dimension, amount));
            }
        }
    }

    /// Adds all of the others.
    pub(super) fn add(&mut self, other: &Self) {
        for (dimension, amount) in &other.0 {
            self.set(*dimension, self.get(*dimension).saturating_add(*amount));
        }
    }

    /// Raises to the others what is less.
    pub(super) fn raise(&mut self, other: &Self) {
        for (dimension, amount) in &other.0 {
            self.set(*dimension, self.get(*dimension).max(*amount));
        }
    }

    /// Every one that is not zero.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Dimension, i64)> {
        self.0.iter().copied().filter(|one| one.1 != 0)
    }

    fn has(&self, dimension: Dimension) -> bool {
        self.find(dimension).is_some()
    }

    fn find(&self, dimension: Dimension) -> Option<usize> {
        self.0.iter().position(|one| one.0 == dimension)
    }
}

/// What one pod takes.
#[derive(Debug)]
pub(super) struct Requests {
    /// What it asks for.
    pub(super) asked: Amounts,
    /// What it counts for when nodes are compared: processor and memory.
    pub(super) counted: [i64; 2],
    /// What it holds of its node: more than it asks for while a resize is not finished.
    pub(super) held: Amounts,
}

/// Reads the requests of pods.
pub(super) struct Reader<'a> {
    /// Texts.
    pub(super) symbols: &'a mut Symbols,
    /// Kinds of resources.
    pub(super) dimensions: &'a mut Dimensions,
}

impl Reader<'_> {
    /// All containers together, or what is the most while init containers run, and the overhead of
    /// the runtime; or what is asked for the pod as a whole.
    pub(super) fn requests(&mut self, pod: &Pod) -> Requests {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let asked = self.sum(spec, |reader, container| reader.asked(container.resources.as_ref()));
        let counted = self.sum(spec, |reader, container| {
            let mut asked = reader.asked(container.resources.as_ref());
            for (dimension, amount) in UNASKED {
                if !asked.has(dimension) {
                    asked.set(dimension, amount);
                }
            }
            asked
        });
        let status = pod.status.as_ref();
        let statuses: Vec<&ContainerStatus> = status
            .into_iter()
            .flat_map(|status| [&status.container_statuses, &status.init_container_statuses])
            .flat_map(|statuses| statuses.iter().flatten())
            .filter(|status| status.resources.is_some() || status.allocated_resources.is_some())
            .collect();
        let held = match statuses.is_empty() {
            true => asked.clone(),
            false => self.sum(spec, |reader, container| reader.held(container, &statuses)),
        };
        Requests { asked, counted: [counted.get(CPU), counted.get(MEMORY)], held }
    }

    fn sum(
        &mut self,
        spec: &PodSpec,
        mut of: impl FnMut(&mut Self, &Container) -> Amounts,
    ) -> Amounts {
        let mut sum = Amounts::default();
        for container in &spec.containers {
            sum.add(&of(self, container));
        }
        // A sidecar runs from its turn on, beside the init containers after it.
        let (mut sidecars, mut most) = (Amounts::default(), Amounts::default());
        for container in spec.init_containers.iter().flatten() {
            let one = of(self, container);
            if container.restart_policy.as_deref() == Some("Always") {
                sum.add(&one);
                sidecars.add(&one);
                most.raise(&sidecars);
            } else {
                let mut now = one;
                now.add(&sidecars);
                most.raise(&now);
            }
        }
        sum.raise(&most);
        if let Some(resources) = &spec.resources {
            for (dimension, amount) in self.asked(Some(resources)).0 {
                sum.set(dimension, amount);
            }
        }
        sum.add(&self.read(spec.overhead.as_ref()));
        sum
    }

    fn asked(&mut self, resources: Option<&ResourceRequirements>) -> Amounts {
        self.read(resources.and_then(|resources| resources.requests.as_ref()))
    }

    /// What a container asks for, or what its status says that it has got, whichever is more.
    fn held(&mut self, container: &Container, statuses: &[&ContainerStatus]) -> Amounts {
        let mut held = self.asked(container.resources.as_ref());
        if let Some(status) = statuses.iter().find(|status| status.name == container.name) {
            held.raise(&self.asked(status.resources.as_ref()));
            held.raise(&self.read(status.allocated_resources.as_ref()));
        }
        held
    }

    /// A request that cannot be read fits nowhere.
    fn read(&mut self, quantities: Option<&Quantities>) -> Amounts {
        Amounts::read(quantities, i64::MAX, self.symbols, self.dimensions)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn asks(spec: Value, status: Value) -> (i64, i64, [i64; 2], i64) {
        let pod = json!({"metadata": {}, "spec": spec, "status": status});
        let mut symbols = Symbols::default();
        let mut dimensions = Dimensions::new(&mut symbols);
        let mut reader = Reader { symbols: &mut symbols, dimensions: &mut dimensions };
        let requests = reader.requests(&serde_json::from_value(pod).unwrap());
        let Requests { asked, counted, held } = requests;
        (asked.get(CPU), asked.get(MEMORY), counted, held.get(CPU))
    }

    fn container(name: &str, cpu: &str, memory: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn the_largest_init_container_or_the_sum_of_all_others() {
        let main = [container("a", "100m", "10"), container("b", "200m", "20")];
        let (cpu, memory, ..) = asks(json!({"containers": main}), json!({}));
        assert_eq!((cpu, memory), (300, 30));
        let init = [container("i", "500m", "5"), container("j", "50m", "40")];
        let spec = json!({"containers": main, "initContainers": init});
        assert_eq!(asks(spec, json!({})).0, 500, "one after the other: the most, not the sum");
        let spec = json!({"containers": main, "initContainers": init});
        assert_eq!(asks(spec, json!({})).1, 40, "each resource by itself");
    }

    #[test]
    fn a_sidecar_runs_beside_the_init_containers_after_it() {
        let mut sidecar = container("s", "200m", "1");
        sidecar["restartPolicy"] = json!("Always");
        let (before, after) = (container("i", "900m", "1"), container("j", "800m", "1"));
        let main = [container("a", "100m", "1")];
        let spec = json!({"containers": main, "initContainers": [before, sidecar, after]});
        assert_eq!(asks(spec, json!({})).0, 1000, "800 beside 200, more than 900 before it");
        let spec = json!({"containers": main, "initContainers": [sidecar]});
        assert_eq!(asks(spec, json!({})).0, 300, "and beside the others");
    }

    #[test]
    fn overhead_and_the_requests_of_the_whole_pod_count() {
        let main = [container("a", "100m", "10")];
        let spec = json!({"containers": main, "overhead": {"cpu": "50m"}});
        assert_eq!(asks(spec, json!({})).0, 150);
        let whole = json!({"requests": {"cpu": "1"}});
        let spec = json!({"containers": main, "resources": whole, "overhead": {"cpu": "50m"}});
        assert_eq!(asks(spec, json!({})), (1050, 10, [1050, 10], 1050));
    }

    #[test]
    fn a_resize_that_is_not_finished_holds_the_larger_amount() {
        let main = [container("a", "100m", "10")];
        let had = json!([{"name": "a", "image": "", "imageID": "", "ready": true,
            "restartCount": 0, "resources": {"requests": {"cpu": "400m"}}}]);
        let (asked, _, _, held) =
            asks(json!({"containers": main}), json!({"containerStatuses": had}));
        assert_eq!((asked, held), (100, 400));
    }

    #[test]
    fn what_asks_for_nothing_counts_a_little_and_what_cannot_be_read_fits_nowhere() {
        let none = json!({"containers": [{"name": "a"}]});
        assert_eq!(asks(none, json!({})), (0, 0, [100, 200 << 20], 0));
        let odd = json!({"containers": [container("a", "much", "1")]});
        assert_eq!(asks(odd, json!({})).0, i64::MAX);
    }
}
