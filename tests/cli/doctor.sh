#!/usr/bin/env bash
# fathom doctor: the table, the JSON, the file that keeps the figures.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export XDG_CACHE_HOME=$tmp/cache
t 2 doctor --seconds 0
failed_well
t 2 doctor --seconds 0.01 x
failed_well
t 2 doctor a b
failed_well
t 3 doctor -q /no/such/file
failed_well
err_has '/no/such/file'
[ ! -e cache/fathom/doctor.json ] || complain 'a failed measurement was kept'

# another machine's processors: two nodes of two cores with two threads each
mkdir -p two/sys/devices/system/{cpu,node/node0,node/node1}
echo 0-7 >two/sys/devices/system/cpu/online
echo 0-1 >two/sys/devices/system/node/online
echo 0-1,4-5 >two/sys/devices/system/node/node0/cpulist
echo 2-3,6-7 >two/sys/devices/system/node/node1/cpulist
for i in 0 1 2 3 4 5 6 7; do
    mkdir -p two/sys/devices/system/cpu/cpu$i/topology
    echo $((i % 4)),$((i % 4 + 4)) >two/sys/devices/system/cpu/cpu$i/topology/thread_siblings_list
done
FATHOM_SYS=$PWD/two t 0 version
out_has 'threads 4'
FATHOM_SYS=$PWD/two t 0 doctor --quick --seconds 0.1 --no-save -q
out_has '2, node 0: 2 cores, 4 processors, threads 0-1; node 1: 2 cores, 4 processors, threads 2-3'
t 2 run --pin here x
failed_well
err_has "'here': none of auto, on, off"
[ "$quick" = 0 ] || finish

t 0 doctor --quick --seconds 0.2 -q
silent
for row in processor cores memory 'float32, products' 'int8, products' 'attention, prompts' Q4_K 'weights, all threads'; do
    out_has "$row"
done
[ -s cache/fathom/doctor.json ] || complain 'no figures were kept'
[ "$(ls cache/fathom)" = doctor.json ] || complain 'something else was left in the cache'

head -c 100000 /dev/urandom >file
printf x >nowhere # where no figures can be kept there is still a result
XDG_CACHE_HOME=$tmp/nowhere t 0 doctor --quick --seconds 0.2 --json -q file
silent
python3 - out <<'END' || complain 'the JSON is not what it should be'
import json, sys
m = json.load(open(sys.argv[1]))
assert m["threads"] >= 1 and m["cpu"] and m["read"][0] > 1e6 and m["f32_gemm"][1] > 1e6, m
assert m["formats"]["Q4_K"]["decode"] > 1e6 and m["disk_path"] == "file", m
END

timeout --preserve-status -s INT 2 "$BIN" doctor --seconds 30 -q >out 2>err
same "$?" 130
[ ! -s out ] || complain 'a stopped measurement prints something'
finish
