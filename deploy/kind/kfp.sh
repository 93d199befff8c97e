#!/usr/bin/env bash
# Kubeflow Pipelines on a kind cluster of this machine.
#   deploy/kind/kfp.sh up              make the cluster, install Kubeflow Pipelines and forward its port
#   deploy/kind/kfp.sh load [CSV]      put the steps' images into it, and ratings as /data/ratings.csv
#   deploy/kind/kfp.sh run [NAME=VALUE...]   upload and run the pipeline, and fetch its report
#   deploy/kind/kfp.sh down            remove the cluster
# Needs docker, kind and kubectl; run also needs .venv (make setup).
set -euo pipefail
cd "$(dirname "$0")/../.."

cluster=wals
context=kind-$cluster
release=2.17.0
manifests=github.com/kubeflow/pipelines/manifests/kustomize
port=${PORT:-8080}
store_port=${STORE_PORT:-9000}
forward_file=build/kind/port-forward
meanwhile=()
minutes=${MINUTES:-60}
docker=${DOCKER:-docker}
# Names of their own, so that an image with ratings inside is never taken for the one to push.
prefix=kind.local/wals
mapfile -t steps < <(printf '%s\n' components/*/component.py | cut -d / -f 2)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)

fail() {
  echo "kfp.sh: error: $1" >&2
  exit "$2"
}

need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || fail "there is no $tool; install it" 2
  done
}

on_cluster() {
  kubectl --context "$context" "$@"
}

up() {
  need kind kubectl "$docker"
  if ! kind get clusters 2>/dev/null | grep -qx "$cluster"; then
    kind create cluster --config deploy/kind/cluster.yaml --wait 5m
  fi
  on_cluster apply -k "$manifests/cluster-scoped-resources?ref=$release"
  on_cluster wait crd/applications.app.k8s.io --for condition=established --timeout 60s
  on_cluster apply -k "$manifests/env/platform-agnostic?ref=$release"
  on_cluster --namespace kubeflow wait deployment --all --for condition=available --timeout "${minutes}m"
  if ! forwarded; then
    forward ml-pipeline-ui "$port" 80
    echo "$forwarding" >"$forward_file"
  fi
  echo "Kubeflow Pipelines $release is up at http://127.0.0.1:$port, until make kind-down"
}

load() {
  need kind "$docker"
  local ratings=${1:-data/ml-latest-small/ratings.csv} step folder
  [ -f "$ratings" ] || fail "there is no file $ratings" 2
  for step in "${steps[@]}"; do
    "$docker" image inspect "wals/$step:$version" >/dev/null 2>&1 ||
      fail "there is no image wals/$step:$version; build it with make images" 2
  done
  folder=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$folder'" EXIT
  cp "$ratings" "$folder/ratings.csv"
  "$docker" build --quiet --file deploy/kind/Dockerfile.extract --build-arg IMAGE="wals/extract:$version" \
    --tag "$prefix/extract:$version" "$folder" >/dev/null
  for step in "${steps[@]}"; do
    [ "$step" = extract ] || "$docker" tag "wals/$step:$version" "$prefix/$step:$version"
    kind load docker-image --name "$cluster" "$prefix/$step:$version"
  done
}

# Forwards a port of this machine to a service: NAME PORT SERVICE_PORT. Leaves the process's id in `forwarding`.
forward() {
  local log=build/kind/$1.log
  mkdir -p build/kind
  # Not through on_cluster, whose shell would be what $! names, and kubectl would outlive this script.
  nohup kubectl --context "$context" --namespace kubeflow port-forward "service/$1" "$2:$3" >"$log" 2>&1 &
  forwarding=$!
  until grep -q '^Forwarding from' "$log"; do
    kill -0 "$forwarding" 2>/dev/null || fail "port $2 cannot be forwarded to $1; is the cluster up? $(tail -n 1 "$log")" 1
    sleep 0.2
  done
}

# Whether the port forwarded by `up` still is.
forwarded() {
  [ -f "$forward_file" ] && ps -ww -p "$(<"$forward_file")" -o args= 2>/dev/null | grep -q port-forward
}

# Forwards a port until this script ends.
forward_meanwhile() {
  forward "$@"
  meanwhile+=("$forwarding")
  trap 'kill "${meanwhile[@]}" 2>/dev/null || true' EXIT
}

secret() {
  on_cluster --namespace kubeflow get secret mlpipeline-minio-artifact -o "jsonpath={.data.$1}" | base64 --decode
}

run() {
  need kubectl
  local wals=.venv/bin/wals parameters=() parameter run_id AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
  local server=(--target kubeflow --host "http://127.0.0.1:$port" --image-prefix "$prefix")
  [ -x "$wals" ] || fail "there is no $wals; run make setup" 2
  for parameter in source=/data/ratings.csv "$@"; do parameters+=(-p "$parameter"); done
  forwarded || forward_meanwhile ml-pipeline-ui "$port" 80
  "$wals" upload "${server[@]}"
  "$wals" submit "${server[@]}" "${parameters[@]}" --wait --json >build/kind/run.json
  run_id=$(.venv/bin/python -c 'import json; print(json.load(open("build/kind/run.json"))["id"])')
  # Where the cluster keeps artifacts, and with the keys that its steps use.
  forward_meanwhile seaweedfs "$store_port" 9000
  AWS_ACCESS_KEY_ID=$(secret accesskey) AWS_SECRET_ACCESS_KEY=$(secret secretkey)
  export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
  .venv/bin/python deploy/kind/report.py "127.0.0.1:$store_port" "$run_id" build/kind/report.html
}

down() {
  need kind
  if forwarded; then kill "$(<"$forward_file")"; fi
  rm -f "$forward_file"
  kind delete cluster --name "$cluster"
}

case ${1-} in
  up | load | run | down) "$@" ;;
  *) fail "give one of: up, load, run, down" 2 ;;
esac
