# shellcheck shell=bash
# shellcheck disable=SC2154 # $dir and $host are the sourcing script's.
# Sourced by the scripts beside it: processes that outlive the script which started them, each known by a folder
# "$dir/NAME" that holds its data, its log and its pid.
#
# A pid is kept together with the time at which the process was born, so that a number that has since been given to
# somebody else is never mistaken for it, and never signalled.

# A broker is stopped for good and its data is thrown away, so there is nothing worth waiting longer for.
readonly stop_deadline_s=10

say() { echo "services: $*" >&2; }

# fail MESSAGE [EXIT CODE]
fail() {
  say "$1"
  exit "${2:-1}"
}

# need PROGRAM WHAT-TO-INSTALL
need() {
  command -v "$1" >/dev/null || fail "$1 is not installed: install $2"
}

# Prints when a process was born, and nothing if it is gone or only waits to be reaped (proc_pid_stat(5)).
birth() {
  local stat fields
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  read -r -a fields <<<"${stat##*) }"
  [[ ${fields[0]} == Z ]] || echo "${fields[19]}"
}

# Prints the pid of NAME if it runs.
pid_of() {
  local pid born
  { read -r pid born <"$dir/$1/pid"; } 2>/dev/null || return 0
  [[ "$(birth "$pid")" != "$born" ]] || echo "$pid"
}

# start NAME COMMAND…: in a session of its own, so that Ctrl-C in the terminal that started it does not stop it, and so
# that what it starts itself is stopped with it.
start() {
  local name=$1
  shift
  mkdir -p "$dir/$name"
  setsid "$@" </dev/null >>"$dir/$name/log" 2>&1 &
  echo "$! $(birth "$!")" >"$dir/$name/pid"
}

# signal NAME SIGNAL: fails if NAME does not run.
signal() {
  local pid
  pid=$(pid_of "$1")
  [[ -n $pid ]] && kill "-$2" -- "-$pid" 2>/dev/null
}

# stop NAME…: asks all of them at once, kills what does not follow in time, removes their folders.
stop() {
  local name running asked=TERM end=$SECONDS
  while :; do
    running=()
    for name in "$@"; do
      [[ -z $(pid_of "$name") ]] || running+=("$name")
    done
    ((${#running[@]})) || break
    if ((SECONDS >= end)); then
      for name in "${running[@]}"; do signal "$name" "$asked" || true; done
      [[ $asked == TERM ]] || say "killed, still running ${stop_deadline_s} s after SIGTERM: ${running[*]}"
      asked=KILL
      end=$((SECONDS + stop_deadline_s))
    fi
    sleep 0.05
  done
  for name in "$@"; do rm -rf -- "${dir:?}/$name"; done
  rmdir "$dir" 2>/dev/null || true
}

# Prints the names of the services that have a folder here; `redis` or `kafka` narrows them down.
services() {
  local path
  for path in "$dir"/"${1:-}"*/pid; do
    [[ ! -e $path ]] || basename "$(dirname "$path")"
  done
}

# await NAME SECONDS CHECK…: until CHECK succeeds; ends the script if NAME dies before, or the time is over.
await() {
  local name=$1 seconds=$2 end=$((SECONDS + $2))
  shift 2
  until "$@"; do
    if [[ -z $(pid_of "$name") ]]; then
      say "$name ended while it started; the end of its log:"
      tail -n 15 "$dir/$name/log" >&2
      exit 1
    fi
    if ((SECONDS >= end)); then
      say "$name does not serve ${seconds} s after its start; the end of its log:"
      tail -n 15 "$dir/$name/log" >&2
      exit 3
    fi
    sleep 0.05
  done
}

port_taken() {
  { : <"/dev/tcp/$host/$1"; } 2>/dev/null
}

# Prints the first of COUNT neighbouring ports that nobody listens on, below the range that the system gives to clients.
free_ports() {
  local base offset
  for _ in {1..50}; do
    base=$((20000 + RANDOM % 12000))
    for ((offset = 0; offset < $1; offset++)); do
      ! port_taken $((base + offset)) || continue 2
    done
    echo "$base"
    return
  done
  fail "no $1 neighbouring free ports were found"
}
