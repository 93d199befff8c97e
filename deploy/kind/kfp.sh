#!/usr/bin/env bash
# Runs Kubeflow Pipelines in a kind cluster on this machine, or in another cluster.
#   deploy/kind/kfp.sh up              create the cluster, install Kubeflow Pipelines and forward its port
#   deploy/kind/kfp.sh load [CSV]      load the steps' images, with ratings as /data/ratings.csv; kind only
#   deploy/kind/kfp.sh run [NAME=VALUE...]   upload and run the pipeline, and fetch its report
#   deploy/kind/kfp.sh down            stop forwarding the port, and delete the cluster if it is kind's
#   KUBE_CONTEXT=...                   another cluster, by its kubectl context: it is neither created nor deleted,
#                                      and runs use the pushed images of build/images.json
# Requires kubectl, for kind also docker and kind; run also requires .venv (make setup).
set -euo pipefail
cd "$(dirname "$0")/../.."

cluster=wals
context=${KUBE_CONTEXT:-kind-$cluster}
release=2.17.0
manifests=github.com/kubeflow/pipelines/manifests/kustomize
port=${PORT:-8080}
store_port=${STORE_PORT:-9000}
forward_file=build/kind/port-forward
temporary_forwards=()
minutes=${MINUTES:-60}
docker=${DOCKER:-docker}
# Separate names, so that the image with ratings inside is never pushed by mistake.
prefix=kind.local/wals
mapfile -t steps < <(containers/steps.sh)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

fail() {
  echo "kfp.sh: error: $1" >&2
  exit "$2"
}

require() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || fail "$tool was not found; install it" 2
  done
}

is_kind() {
  [ -z "${KUBE_CONTEXT-}" ]
}

on_cluster() {
  kubectl --context "$context" "$@"
}

up() {
  require kubectl
  if is_kind; then create_cluster; fi
  on_cluster apply -k "$manifests/cluster-scoped-resources?ref=$release"
  on_cluster wait crd/applications.app.k8s.io --for condition=established --timeout 60s
  on_cluster apply -k "$manifests/env/platform-agnostic?ref=$release"
  on_cluster --namespace kubeflow patch configmap workflow-controller-configmap \
    --patch-file deploy/kind/workflow-controller.yaml
  on_cluster --namespace kubeflow wait deployment --all --for condition=available --timeout "${minutes}m"
  if ! is_forwarded; then
    forward ml-pipeline-ui "$port" 80
    echo "$forwarding" >"$forward_file"
  fi
  echo "Kubeflow Pipelines $release runs at http://127.0.0.1:$port until make kind-down"
}

create_cluster() {
  require kind "$docker"
  if ! kind get clusters 2>/dev/null | grep -qx "$cluster"; then
    kind create cluster --config deploy/kind/cluster.yaml --wait 5m
  fi
}

load() {
  is_kind || fail "load is for kind; push the images instead: make push REGISTRY=..." 2
  require kind "$docker"
  local ratings=${1:-data/ml-latest-small/ratings.csv} step folder
  [ -f "$ratings" ] || fail "$ratings does not exist; give a CSV file" 2
  for step in "${steps[@]}"; do
    "$docker" image inspect "wals/$step:$version" >/dev/null 2>&1 ||
      fail "image wals/$step:$version does not exist; build it with make images" 2
  done
  folder=$(mktemp -d)
  # shellcheck disable=SC2064 # expand the folder's name now
  trap "rm -rf '$folder'" EXIT
  cp "$ratings" "$folder/ratings.csv"
  "$docker" build --quiet --file deploy/kind/Dockerfile.extract --build-arg IMAGE="wals/extract:$version" \
    --tag "$prefix/extract:$version" "$folder" >/dev/null
  for step in "${steps[@]}"; do
    [ "$step" = extract ] || "$docker" tag "wals/$step:$version" "$prefix/$step:$version"
    kind load docker-image --name "$cluster" "$prefix/$step:$version"
  done
}

# Forwards a port of this machine to a service: NAME PORT SERVICE_PORT. Sets `forwarding` to the process's id.
forward() {
  local log=build/kind/$1.log
  mkdir -p build/kind
  # Not through on_cluster: $! would be the id of its subshell, and kubectl would outlive this script.
  nohup kubectl --context "$context" --namespace kubeflow port-forward "service/$1" "$2:$3" >"$log" 2>&1 &
  forwarding=$!
  until grep -q '^Forwarding from' "$log"; do
    kill -0 "$forwarding" 2>/dev/null || fail "port $2 cannot be forwarded to $1; is the cluster up? $(tail -n 1 "$log")" 1
    sleep 0.2
  done
}

# Succeeds if the port that `up` forwarded still is.
is_forwarded() {
  [ -f "$forward_file" ] && ps -ww -p "$(<"$forward_file")" -o args= 2>/dev/null | grep -q port-forward
}

# Forwards a port until this script exits.
forward_temporarily() {
  forward "$@"
  temporary_forwards+=("$forwarding")
  trap 'kill "${temporary_forwards[@]}" 2>/dev/null || true' EXIT
}

secret() {
  on_cluster --namespace kubeflow get secret mlpipeline-minio-artifact -o "jsonpath={.data.$1}" | base64 --decode
}

run() {
  require kubectl
  local wals=.venv/bin/wals parameters=() parameter run_id AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
  local server=(--target kubeflow --host "http://127.0.0.1:$port")
  [ -x "$wals" ] || fail "$wals does not exist; run make setup" 2
  if is_kind; then
    server+=(--image-prefix "$prefix")
    set -- source=/data/ratings.csv "$@"
  else
    server+=(--images build/images.json)
  fi
  for parameter in "$@"; do parameters+=(-p "$parameter"); done
  is_forwarded || forward_temporarily ml-pipeline-ui "$port" 80
  "$wals" upload "${server[@]}"
  "$wals" submit "${server[@]}" "${parameters[@]}" --wait --json >build/kind/run.json
  run_id=$(.venv/bin/python -c 'import json; print(json.load(open("build/kind/run.json"))["id"])')
  # The cluster's object store, read with the keys that its steps use.
  forward_temporarily seaweedfs "$store_port" 9000
  AWS_ACCESS_KEY_ID=$(secret accesskey) AWS_SECRET_ACCESS_KEY=$(secret secretkey)
  export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
  .venv/bin/python deploy/kind/report.py "127.0.0.1:$store_port" "$run_id" build/kind/report.html
}

down() {
  if is_forwarded; then kill "$(<"$forward_file")"; fi
  rm -f "$forward_file"
  is_kind || return 0
  require kind
  kind delete cluster --name "$cluster"
}

case ${1-} in
  up | load | run | down) "$@" ;;
  *) fail "give one of: up, load, run, down" 2 ;;
esac
