package conformance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/argoproj/argo-workflows/v4/pkg/apis/workflow/v1alpha1"
	"gopkg.in/yaml.v3"
)

// Folder that `make conformance` compiles to.
const specs = "../build/conformance"

var source = map[string]any{"source": "s3://bucket/ratings.csv"}

type object = map[string]any

func read(t *testing.T, name string) []byte {
	t.Helper()
	spec, err := os.ReadFile(filepath.Join(specs, name))
	if err != nil {
		t.Fatalf("run `make conformance`, which compiles the specs first: %v", err)
	}
	return spec
}

func TestEveryCompiledSpecBecomesAWorkflow(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(specs, "*.kubeflow.yaml"))
	if err != nil || len(paths) < 2 {
		t.Fatalf("run `make conformance`, which compiles the specs first: %v, %v", paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			workflow, err := Workflow(read(t, filepath.Base(path)), source)
			if err != nil {
				t.Fatal(err)
			}
			steps := tasks(parsed(t, read(t, filepath.Base(path))))
			for step := range steps {
				if !hasTask(workflow.Spec.Templates, step) {
					t.Errorf("the workflow has no task for the step %s", step)
				}
			}
			t.Logf("%d templates for %d steps", len(workflow.Spec.Templates), len(steps))
		})
	}
}

func TestRunsTakeParameters(t *testing.T) {
	spec := read(t, "wals-train.kubeflow.yaml")
	parameters := object{"source": "s3://bucket/ratings.csv", "latent_factors": 32, "regularization": 0.5, "top_k": 7}
	if _, err := Workflow(spec, parameters); err != nil {
		t.Fatal(err)
	}
}

func TestSecretsReachTheWorkflow(t *testing.T) {
	spec := read(t, "secrets/wals-train.kubeflow.yaml")
	workflow, err := Workflow(spec, source)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(workflow)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "mlpipeline-minio-artifact"} {
		if !strings.Contains(string(text), name) {
			t.Errorf("the workflow does not contain %s", name)
		}
	}
	broken := strings.Replace(string(spec), "secretAsEnv:", "secretAsColour:", 1)
	if _, err := Workflow([]byte(broken), source); err == nil {
		t.Error("a second document with an unknown field is accepted")
	}
}

func TestBrokenSpecsAndParametersAreRejected(t *testing.T) {
	cases := map[string]struct {
		breaks     func(spec object)
		parameters object
		refusal    string
	}{
		"an older schema": {
			breaks:  func(spec object) { spec["schemaVersion"] = "2.0.0" },
			refusal: "only supports schema version 2.1.0",
		},
		"no name": {
			breaks:  func(spec object) { spec["pipelineInfo"].(object)["name"] = "" },
			refusal: "unknown template format",
		},
		"a field that is not in the schema": {
			breaks:  func(spec object) { spec["colour"] = "red" },
			refusal: "unknown template format",
		},
		"a step without its component": {
			breaks:  func(spec object) { delete(spec["components"].(object), "comp-train") },
			refusal: "comp-train",
		},
		"a component without its executor": {
			breaks:  func(spec object) { delete(executors(spec), "exec-train") },
			refusal: "exec-train",
		},
		"steps that wait for each other": {
			breaks:  func(spec object) { tasks(spec)["train"].(object)["dependentTasks"] = []any{"prepare", "evaluate"} },
			refusal: "Argo rejects the workflow",
		},
		"a missing source":         {parameters: object{}, refusal: "source"},
		"text instead of a number": {parameters: object{"source": "s", "num_iters": "many"}, refusal: "num_iters"},
		"an unknown parameter":     {parameters: object{"source": "s", "colour": "red"}, refusal: "colour"},
	}
	for name, broken := range cases {
		t.Run(name, func(t *testing.T) {
			spec := parsed(t, read(t, "wals-train.kubeflow.yaml"))
			if broken.breaks != nil {
				broken.breaks(spec)
			}
			// JSON is also YAML. yaml.Marshal wraps long lines in a way that its own parser cannot read.
			text, err := json.Marshal(spec)
			if err != nil {
				t.Fatal(err)
			}
			parameters := broken.parameters
			if parameters == nil {
				parameters = source
			}
			_, err = Workflow(text, parameters)
			if err == nil {
				t.Fatal("it is accepted")
			}
			if !strings.Contains(err.Error(), broken.refusal) {
				t.Fatalf("it is rejected for another reason: %v", err)
			}
		})
	}
}

func parsed(t *testing.T, text []byte) object {
	t.Helper()
	spec := object{}
	if err := yaml.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// tasks returns the tasks of the pipeline and of the groups in it: the exit handler's, loops and conditions.
func tasks(spec object) object {
	found := object{}
	parts := []any{spec["root"]}
	for _, component := range spec["components"].(object) {
		parts = append(parts, component)
	}
	for _, part := range parts {
		dag, ok := part.(object)["dag"].(object)
		if !ok {
			continue
		}
		for name, task := range dag["tasks"].(object) {
			found[name] = task
		}
	}
	return found
}

func executors(spec object) object {
	return spec["deploymentSpec"].(object)["executors"].(object)
}

func hasTask(templates []v1alpha1.Template, name string) bool {
	for _, template := range templates {
		if template.DAG == nil {
			continue
		}
		for _, task := range template.DAG.Tasks {
			if task.Name == name {
				return true
			}
		}
	}
	return false
}
