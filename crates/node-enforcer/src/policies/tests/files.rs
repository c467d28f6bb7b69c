//! What is said of each kind of mistake.

use super::{Scratch, load_here, policy, refusal, refusal_of, with_detect};

#[test]
fn documents_of_a_file_and_files_of_a_folder_make_one_set() {
    let scratch = Scratch::new();
    let two = format!("# a comment\n---\n{}---\n# nothing\n--- \n{}", policy("a"), policy("b"));
    scratch.write("dir/1.yaml", &two);
    scratch.write("dir/2.yml", format!("\u{feff}{}", policy("c")));
    scratch.write(
        "dir/3.json",
        "\u{feff}".to_owned() + r#"{"apiVersion":"mooring.dev/v1alpha1","kind":"ContainerDriftPolicy","metadata":{"name":"d"},"spec":{"enabled":false}}"#,
    );
    scratch.write("dir/.hidden.yaml", "{");
    scratch.write("dir/readme.txt", "{");
    scratch.write("dir/below/x.yaml", "{");
    let set = load_here(&scratch.at("dir")).unwrap();
    let found: Vec<_> =
        set.policies.iter().map(|p| (p.file.file_name().unwrap().to_str().unwrap(), p.document, p.name())).collect();
    assert_eq!(found, [("1.yaml", 1, "a"), ("1.yaml", 3, "b"), ("2.yml", 1, "c"), ("3.json", 1, "d")]);
    let in_force: Vec<_> = set.rules.policies().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(in_force, ["a", "b", "c"], "a disabled policy takes no slot");
}

#[test]
fn an_error_names_file_document_and_field() {
    let scratch = Scratch::new();
    let bad = policy("b").replace("spec: {}", "spec: {enabled: 7, colour: red}");
    let file = scratch.write("p.yaml", format!("{}---\n{bad}", policy("a")));
    let errors = refusal(&scratch, &file);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors.iter().any(|e| e.starts_with("/p.yaml: document 2: spec.colour: ")), "{errors:?}");
    assert!(errors.iter().any(|e| e.starts_with("/p.yaml: document 2: spec.enabled: ")), "{errors:?}");
}

#[test]
fn paths_in_lists_are_checked() {
    for (path, field) in [
        ("\"\"", "spec.detect.exceptions[0].path"),
        ("bin/x", "spec.detect.exceptions[0].path"),
        ("/a/../b", "spec.detect.exceptions[0].path"),
        ("/a//b", "spec.detect.exceptions[0].path"),
    ] {
        let message = refusal_of(with_detect(&format!("    exceptions: [{{path: {path}}}]\n")));
        assert!(message.contains(&format!("document 1: {field}: ")), "{path}: {message}");
    }
    let long: Vec<_> = (0..300).map(|i| format!("    - path: /x{i}\n")).collect();
    let message = refusal_of(with_detect(&format!("    exceptions:\n{}", long.concat())));
    assert!(message.contains("document 1: spec.detect.exceptions"), "{message}");
}

#[test]
fn other_objects_and_wrong_types_are_refused_by_name() {
    let message = refusal_of("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n");
    assert!(message.contains("kind") && message.contains("ConfigMap"), "{message}");
    for content in ["just text\n", "[1, 2]\n", "7\n"] {
        let message = refusal_of(content);
        assert!(message.contains("document 1: must be an object"), "{message}");
    }
    let message = refusal_of(policy("p").replace("{}", "{actions: {prevent: yes}}"));
    assert!(message.contains("document 1: spec.actions.prevent: "), "YAML 1.1's yes is no boolean: {message}");
}

#[test]
fn a_name_is_used_once() {
    let scratch = Scratch::new();
    scratch.write("1.yaml", policy("a"));
    scratch.write("2.yaml", format!("{}---\n{}", policy("b"), policy("a")));
    let errors = refusal(&scratch, scratch.path());
    assert!(
        errors[0].starts_with("/2.yaml: document 2: metadata.name: a is also the name of document 1 of /1.yaml: "),
        "{errors:?}"
    );
    let scratch = Scratch::new();
    let file = scratch.write("p.yaml", format!("{0}---\n{0}", policy("a")));
    assert!(refusal(&scratch, &file)[0].starts_with("/p.yaml: document 2: metadata.name: "));
}

#[test]
fn a_key_is_written_once_in_yaml_and_json() {
    let message = refusal_of(policy("p").replace("spec: {}", "spec:\n  enabled: true\n  scope: {}\n  enabled: false"));
    assert!(message.contains("document 1: spec.enabled: is written twice"), "{message}");
    let message = refusal_of(with_detect("    exceptions: [{path: /a}, {path: /b, path: /c}]\n"));
    assert!(message.contains("spec.detect.exceptions[1].path: is written twice"), "{message}");
    let scratch = Scratch::new();
    let file = scratch.write("p.json", r#"{"kind": "a", "spec": {"x": 1, "x": 2}}"#);
    let errors = refusal(&scratch, &file);
    assert!(errors[0].starts_with("/p.json: document 1: spec.x: is written twice"), "{errors:?}");
}

#[test]
fn broken_yaml_is_refused_with_its_place_and_hides_no_other_document() {
    let scratch = Scratch::new();
    let file = scratch.write("p.yaml", format!("{}---\nspec: [\n---\nkind: x\n", policy("a")));
    let errors = refusal(&scratch, &file);
    assert!(errors[0].starts_with("/p.yaml: document 2: is not YAML that can be read at line "), "{errors:?}");
    let line: usize = errors[0].split("line ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!((6..=8).contains(&line), "{errors:?}");
    assert!(errors.iter().any(|e| e.starts_with("/p.yaml: document 3: ")), "{errors:?}");
    let file = scratch.write("p.json", "{\"kind\": ");
    assert!(refusal(&scratch, &file)[0].contains("is not JSON that can be read"));
}

#[test]
fn empty_places_are_refused() {
    let scratch = Scratch::new();
    assert!(refusal(&scratch, &scratch.folder("dir"))[0].contains("the folder holds no policy: put a file there"));
    for content in ["", "\n# only a comment\n", "---\n", "---\n---\n", "null\n"] {
        let file = scratch.write("empty.yaml", content);
        let errors = refusal(&scratch, &file);
        assert!(errors[0].contains("the file is empty"), "{content:?}: {errors:?}");
    }
}

#[test]
fn anchors_and_merge_keys_may_be_used() {
    let spec = "spec:\n  scope: {containers: &names [api], images: *names}\n  actions: {<<: {prevent: true}}";
    let scratch = Scratch::new();
    let set = load_here(&scratch.write("p.yaml", policy("p").replace("spec: {}", spec))).unwrap();
    let spec = &set.policies[0].policy.spec;
    assert_eq!((spec.scope.images[0].as_str(), spec.actions.prevent), ("api", true));
}

#[test]
fn too_many_policies_are_refused_by_the_compiler_with_their_place() {
    let scratch = Scratch::new();
    let many: Vec<_> = (0..65).map(|i| format!("---\n{}", policy(&format!("p{i:03}")))).collect();
    let file = scratch.write("p.yaml", many.concat());
    let errors = refusal(&scratch, &file);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("/p.yaml: document 65: ") && errors[0].contains("64"), "{errors:?}");
}

#[test]
fn every_policy_among_the_examples_can_be_put_in_force() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    let mut loaded = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|extension| extension == "yaml") && !name.starts_with("channel-") {
            assert_eq!(load_here(&path).unwrap().rules.policies().len(), 1, "{name}");
            loaded += 1;
        }
    }
    assert!(loaded >= 7, "{loaded}");
}
