# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # Some names are the sourcing script's, some are for it.
# Sourced by the scripts beside it: a redis-server that keeps nothing. Needs $dir and $redis_port.

readonly redis_deadline_s=20

start_redis() {
  mkdir -p "$dir/redis"
  start redis redis-server --bind 127.0.0.1 --port "$redis_port" --dir "$dir/redis" --save '' --appendonly no
}

redis_answers() {
  local answer
  {
    answer=$(
      exec {redis}<>"/dev/tcp/127.0.0.1/$redis_port" &&
        printf 'PING\r\n' >&"$redis" && timeout 5 head -c 5 <&"$redis"
    )
  } 2>/dev/null || return 1
  [[ $answer == +PONG ]]
}
