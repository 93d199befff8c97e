// Package conformance turns compiled pipeline specs into Argo Workflows with the code of Kubeflow Pipelines'
// API server, as the server does when a user uploads a spec and starts a run.
package conformance

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/argoproj/argo-workflows/v4/pkg/apis/workflow/v1alpha1"
	"github.com/argoproj/argo-workflows/v4/util/logging"
	"github.com/argoproj/argo-workflows/v4/workflow/validate"
	"github.com/kubeflow/pipelines/backend/src/apiserver/config/proxy"
	"github.com/kubeflow/pipelines/backend/src/apiserver/model"
	"github.com/kubeflow/pipelines/backend/src/apiserver/template"
)

// The API server does this when it starts; its compiler panics otherwise.
func init() { proxy.InitializeConfig("", "", "") }

// Workflow compiles a pipeline spec for a run and has Argo check the result.
//
// spec is the uploaded YAML. parameters are those of the run; omitted ones have the spec's defaults.
// An error says whether the API server or Argo rejects the spec.
func Workflow(spec []byte, parameters map[string]any) (*v1alpha1.Workflow, error) {
	uploaded, err := template.New(spec, template.TemplateOptions{})
	if err != nil {
		return nil, fmt.Errorf("the API server rejects the upload: %w", err)
	}
	values, err := json.Marshal(parameters)
	if err != nil {
		return nil, err
	}
	run := &model.Run{DisplayName: "conformance", Namespace: "kubeflow"}
	run.RuntimeConfig.Parameters = model.LargeText(values)
	execution, err := uploaded.RunWorkflow(run, template.RunWorkflowOptions{RunID: "conformance"})
	if err != nil {
		return nil, fmt.Errorf("the API server rejects the run: %w", err)
	}
	workflow := &v1alpha1.Workflow{}
	if err := json.Unmarshal([]byte(execution.ToStringForStore()), workflow); err != nil {
		return nil, err
	}
	ctx := logging.WithLogger(context.Background(), logging.NewSlogLogger(logging.Error, logging.Text))
	if err := validate.ValidateWorkflow(ctx, nil, nil, workflow, nil, validate.ValidateOpts{Lint: true}); err != nil {
		return nil, fmt.Errorf("Argo rejects the workflow: %w", err)
	}
	return workflow, nil
}
