# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # Some names are the sourcing script's, some are for it.
# Sourced by the scripts beside it: a redis-server. Needs $dir, $host, $redis_port, and $redis_aof: "yes" if it keeps
# every write in a file, "no" if it keeps nothing.
#
# Each write is given to the system before it is answered, so that it outlives the process, and the system syncs when it likes. With a
# sync each second, which is the default, Redis holds writes back that it has answered, while a sync goes on.

readonly redis_deadline_s=20

start_redis() {
  mkdir -p "$dir/redis"
  cat >"$dir/redis/redis.conf" <<CONF
bind $host
protected-mode no
port $redis_port
dir $dir/redis
save ""
appendonly $redis_aof
appendfsync no
CONF
  start_redis_again
}

# With the settings, and the data, that it had.
start_redis_again() {
  start redis redis-server "$dir/redis/redis.conf"
}

redis_answers() {
  local answer
  {
    answer=$(
      exec {redis}<>"/dev/tcp/$host/$redis_port" &&
        printf 'PING\r\n' >&"$redis" && timeout 5 head -c 5 <&"$redis"
    )
  } 2>/dev/null || return 1
  [[ $answer == +PONG ]]
}
