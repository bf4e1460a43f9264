#!/usr/bin/env bash
# Train voices on one GPU, stage by stage, each in MINUTES: bash benchmarks/voices.sh DATA OUT [STAGE ...]
#
#   DATA     the folder that holds commit_diff, blog_title, acl_title, commit_subject and release_note
#   OUT      OUT/STAGE is the stage's run; OUT/home/STAGE what to bring home: adapter.gguf, recipe, log
#   STAGE    warm05  warm start of the 0.5B base (all examples once)
#            grpo05  GRPO from there, the base in NF4
#            warm15  warm start of the 1.5B base (250 steps)
#
# A stage that runs out of time leaves a checkpoint and its adapter so far, and ends this script with 130: the same
# command goes on. A stage that is done is left out. PREPARE=1 only tokenizes the data, beforehand, on any machine.
# BASE05 and BASE15 are the bases: names, GGUF files or Hugging Face folders. SETS are further --set options, MINUTES
# the time of each stage; a GPU's 12 minutes leave one for starting.
set -euo pipefail
data=$1 out=$2
shift 2

run() { # VERB STAGE OPTIONS...
  local verb=$1 stage=$2 code=0
  shift 2
  echo "== $stage" >&2
  # shellcheck disable=SC2086
  prlm-edge train "$verb" --recipe voice-gpu --data "$data" --out "$out/$stage" --minutes "${MINUTES:-11}" \
    ${PREPARE:+--prepare} "$@" ${SETS:-} || code=$?
  if [ -f "$out/$stage/adapter.gguf" ]; then
    mkdir -p "$out/home/$stage"
    cp "$out/$stage"/{adapter.gguf,recipe.yaml,run.json,run.jsonl} "$out/home/$stage"
  fi
  return $code
}

for stage in "${@:-warm05}"; do
  case $stage in
    warm05) run warmstart warm05 --model "${BASE05:-qwen2.5-coder-0.5b}" ;;
    grpo05)
      adapter=(--adapter "$out/warm05/adapter")
      [ -z "${PREPARE:-}" ] || adapter=()
      run grpo grpo05 --model "${BASE05:-qwen2.5-coder-0.5b}" --qlora "${adapter[@]}" --limit 300
      ;;
    warm15)
      run warmstart warm15 --model "${BASE15:-qwen2.5-coder-1.5b}" --set warmstart.max_steps=250 \
        --set warmstart.micro_batch=8 --set warmstart.lr=4e-4
      ;;
    *) echo "no stage $stage: there are warm05, grpo05, warm15" >&2 && exit 2 ;;
  esac
done
