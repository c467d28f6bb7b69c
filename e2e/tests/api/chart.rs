//! The chart, with every combination of its options, against the API server: nothing is stored.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use mooring_e2e::cluster::{CHART, Error, Helm, HelmVersion};
use mooring_e2e::vm;

use super::{cluster, kubectl, refusal};

/// Options that add or leave out objects, each away from its default.
const OPTIONS: [&str; 7] = [
    "crds.install=false",
    "roles.aggregate=false",
    "operator.replicas=1",
    "networkPolicy.enabled=true",
    "metrics.service=true",
    "metrics.podMonitor=true",
    "metrics.prometheusRule=true",
];

/// Values that change objects, all of them at once: whatever the schema lets through, the API server must take.
const VALUES: [&str; 25] = [
    "images.registry=registry.example.com:5000/mirror/mooring/",
    "images.tag=v1",
    "images.pullPolicy=Always",
    "images.pullSecrets={one,two}",
    "agent.unknownContainers=Allow",
    "agent.config.ignoreActions=true",
    "agent.config.protectedPods[0].name=etcd-*",
    "agent.config.protectedPods[0].static=true",
    "agent.maxSurge=1",
    "agent.priorityClassName=high",
    "agent.nodeSelector.pool=general",
    "agent.tolerations[0].key=dedicated",
    "agent.tolerations[0].operator=Equal",
    "agent.tolerations[0].value=yes",
    "agent.tolerations[0].effect=NoExecute",
    "agent.tolerations[0].tolerationSeconds=60",
    "agent.podAnnotations.team=security",
    "agent.resources.requests.cpu=1",
    "agent.resources.limits.memory=1Gi",
    "operator.leaseSeconds=30",
    "operator.volumeBinaries=true",
    "operator.events.perCluster=1000000",
    "operator.nodeSelector.pool=general",
    "operator.podAnnotations.team=security",
    "networkPolicy.apiServerPorts={8443}",
];

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn helm() -> Helm {
    static HELM: OnceLock<Helm> = OnceLock::new();
    HELM.get_or_init(|| cluster().helm(HelmVersion::Four).unwrap()).clone()
}

fn set(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| format!("--set={value}")).collect()
}

fn rendered(values: &[&str]) -> Result<String, String> {
    let arguments = set(values);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    helm().template(&arguments).map_err(|error| match error {
        Error::Rig(vm::Error::Failed { stderr, .. }) => stderr,
        other => panic!("{other}"),
    })
}

/// The objects of a rendered chart.
fn objects(text: &str) -> impl Iterator<Item = String> {
    text.split("\n---\n")
        .map(|object| object.trim_start_matches("---").trim().to_owned() + "\n")
        .filter(|object| object.contains("kind:"))
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn lint_has_nothing_against_it() {
    let said = helm().run(&["lint", "--strict", CHART, "--namespace", "mooring-system"]).unwrap();
    assert!(said.contains("0 chart(s) failed") && !said.contains("WARNING"), "{said}");
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn every_combination_is_what_the_api_server_takes() {
    cluster().define_monitoring().unwrap();
    let mut all = BTreeSet::new();
    for combination in 0..1_u32 << OPTIONS.len() {
        let chosen: Vec<&str> = OPTIONS
            .iter()
            .enumerate()
            .filter(|(bit, _)| combination >> bit & 1 == 1)
            .map(|(_, option)| *option)
            .collect();
        all.extend(objects(&rendered(&chosen).unwrap_or_else(|error| panic!("{chosen:?}: {error}"))));
    }
    all.extend(objects(&rendered(&VALUES).unwrap()));
    all.extend(objects(
        &rendered(&[&format!("images.enforcerDigest={DIGEST}"), &format!("images.operatorDigest={DIGEST}")]).unwrap(),
    ));
    // A combination adds or leaves out objects and changes none: so each object is asked about once.
    assert!((30..60).contains(&all.len()), "{} objects", all.len());
    let all: Vec<String> = all.into_iter().collect();
    // Fields that the API server does not know are refused, too.
    let arguments = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    assert_eq!(refusal(&kubectl(), &arguments, &all.join("---\n")), None);
}

#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn bad_values_are_refused_by_name() {
    for (value, place, said) in [
        ("metrics.podMonitors=true", "at '/metrics'", "additional properties 'podMonitors' not allowed"),
        ("agents.maxSurge=1", "at ''", "additional properties 'agents' not allowed"),
        ("agent.config.ignoreAction=true", "at '/agent/config'", "additional properties 'ignoreAction' not allowed"),
        ("agent.config.ignoreActions=yes", "at '/agent/config/ignoreActions'", "got string, want boolean"),
        ("agent.config.protectedPods[0].nam=x", "at '/agent/config/protectedPods/0'", "additional properties 'nam'"),
        ("agent.maxSurge=0", "at '/agent/maxSurge'", "minimum: got 0, want 1"),
        ("agent.maxSurge=0%", "at '/agent/maxSurge'", "does not match pattern"),
        ("agent.unknownContainers=deny", "at '/agent/unknownContainers'", "value must be one of 'DenyDrift', 'Allow'"),
        ("agent.resources.requests.cpu=lots", "at '/agent/resources/requests/cpu'", "does not match pattern"),
        ("agent.tolerations[0].effect=Never", "at '/agent/tolerations/0/effect'", "value must be one of 'NoSchedule'"),
        ("operator.replicas=two", "at '/operator/replicas'", "got string, want integer"),
        ("operator.leaseSeconds=1", "at '/operator/leaseSeconds'", "minimum: got 1, want 3"),
        ("operator.events.perCluster=0", "at '/operator/events/perCluster'", "minimum: got 0, want 1"),
        ("images.enforcerDigest=abc", "at '/images/enforcerDigest'", "'abc' does not match pattern"),
        ("images.registry=", "at '/images/registry'", "does not match pattern"),
        ("networkPolicy.apiServerPorts={0}", "at '/networkPolicy/apiServerPorts/0'", "minimum: got 0, want 1"),
    ] {
        let refused = rendered(&[value]).expect_err(value);
        assert!(refused.contains(place) && refused.contains(said), "{value}: {refused}");
    }
    let elsewhere = helm().run(&["template", "mooring", CHART, "--namespace", "other"]).unwrap_err().to_string();
    assert!(elsewhere.contains("add --namespace mooring-system --create-namespace"), "{elsewhere}");
}

fn described(place: &str, schema: &serde_json::Value, seen: &mut usize) {
    assert!(schema["description"].as_str().is_some_and(|text| text.len() > 8), "{place} is not described");
    *seen += 1;
    if let Some(properties) = schema["properties"].as_object() {
        assert_eq!(schema["additionalProperties"], false, "{place} takes anything");
        for (name, property) in properties {
            described(&format!("{place}.{name}"), property, seen);
        }
    }
}

#[test]
fn the_schema_describes_every_value() {
    let text = std::fs::read_to_string(format!("{CHART}/values.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut seen = 0;
    described("values", &schema, &mut seen);
    assert!(seen > 40, "{seen}");
}

/// What a person with the cluster's role `edit`, or `view`, may do.
#[test]
#[ignore = "starts a Kubernetes API server: make test-api"]
fn people_read_and_write_policies_and_touch_no_events() {
    for (role, verb, kind, may) in [
        ("view", "list", "driftevents", true),
        ("view", "get", "containerdriftpolicies", true),
        ("view", "create", "containerdriftpolicies", false),
        ("edit", "list", "driftnodes", true),
        ("edit", "create", "containerdriftpolicies", true),
        ("edit", "delete", "notificationchannels", true),
        ("edit", "delete", "driftevents", false),
        ("edit", "deletecollection", "driftevents", false),
        ("edit", "patch", "driftevents", false),
        ("edit", "update", "driftevents", false),
        ("edit", "patch", "driftnodes", false),
        ("edit", "update", "driftnodes", false),
        ("admin", "create", "containerdriftpolicies", true),
        ("admin", "delete", "driftevents", false),
    ] {
        let user = format!("{role}er");
        let bound = [
            "create",
            "clusterrolebinding",
            &user,
            &format!("--clusterrole={role}"),
            &format!("--user={user}"),
            "--dry-run=client",
            "-o",
            "yaml",
        ];
        kubectl().apply(&kubectl().run(&bound).unwrap()).unwrap();
        let ask = ["auth", "can-i", verb, &format!("{kind}.mooring.dev"), "--as", &user, "--all-namespaces"];
        // The cluster's roles take ours in a moment after they were made.
        let asked = || kubectl().run(&ask).is_ok_and(|said| said.starts_with("yes"));
        let begun = std::time::Instant::now();
        while asked() != may && begun.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        assert_eq!(asked(), may, "{role} {verb} {kind}");
    }
}
