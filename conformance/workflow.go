// Package conformance turns compiled pipeline specs into Argo Workflows with the code of Kubeflow Pipelines'
// own API server, as it does when a person uploads a spec and starts a run.
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

// The API server does this when it starts, and its compiler panics without.
func init() { proxy.InitializeConfig("", "", "") }

// Workflow compiles a pipeline spec for a run and has Argo check the result.
//
// spec is the YAML that is uploaded; parameters are the run's, and those it leaves out have the spec's defaults.
// An error says who refuses it: the API server, or Argo.
func Workflow(spec []byte, parameters map[string]any) (*v1alpha1.Workflow, error) {
	uploaded, err := template.New(spec, template.TemplateOptions{})
	if err != nil {
		return nil, fmt.Errorf("the API server refuses the upload: %w", err)
	}
	given, err := json.Marshal(parameters)
	if err != nil {
		return nil, err
	}
	run := &model.Run{DisplayName: "conformance", Namespace: "kubeflow"}
	run.RuntimeConfig.Parameters = model.LargeText(given)
	execution, err := uploaded.RunWorkflow(run, template.RunWorkflowOptions{RunID: "conformance"})
	if err != nil {
		return nil, fmt.Errorf("the API server refuses the run: %w", err)
	}
	workflow := &v1alpha1.Workflow{}
	if err := json.Unmarshal([]byte(execution.ToStringForStore()), workflow); err != nil {
		return nil, err
	}
	ctx := logging.WithLogger(context.Background(), logging.NewSlogLogger(logging.Error, logging.Text))
	if err := validate.ValidateWorkflow(ctx, nil, nil, workflow, nil, validate.ValidateOpts{Lint: true}); err != nil {
		return nil, fmt.Errorf("Argo refuses the workflow: %w", err)
	}
	return workflow, nil
}
