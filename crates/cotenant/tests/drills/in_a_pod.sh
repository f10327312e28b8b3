# Writes ConfigMaps by the name of the API server and reads them back, until /tmp/stop is there: one with a new connection for
# each request, one over the connection that `kubectl proxy` keeps. Tells what failed, and in the end the numbers.
objects=api/v1/namespaces/default/configmaps
proxy=http://127.0.0.1:8001
requests=0 again=0 failed=0 number=0

post_new() { echo "$2" | timeout 30 kubectl create --raw "/$objects" -f - 2>&1; }
get_new() { timeout 30 kubectl get --raw "/$objects/$1" 2>&1; }
post_kept() { timeout 30 wget -q -O - --header 'Content-Type: application/json' --post-data "$2" "$proxy/$objects" 2>&1; }
get_kept() { timeout 30 wget -q -O - "$proxy/$objects/$1" 2>&1; }

request() {
    requests=$((requests + 1))
    said=$("$@") && return
    # The proxy found its kept connection closed before it was answered: sent again, once. It may have been written.
    case "$said" in
    *' 502 '*)
        again=$((again + 1))
        said=$("$@") && return
        case "$said" in *' 409 '*) return ;; esac
        ;;
    esac
    failed=$((failed + 1))
    echo "failed: $* said ${said:-nothing}"
}

kubectl proxy --port=8001 > /dev/null &
until get_new '' > /dev/null && get_kept '' > /dev/null; do usleep 200000; done
echo started
while [ ! -e /tmp/stop ]; do
    number=$((number + 1))
    for way in new kept; do
        name=$way-$number
        request post_$way "$name" "{\"metadata\":{\"name\":\"$name\",\"labels\":{\"by\":\"a-pod\"}}}"
        request get_$way "$name"
    done
    usleep 50000
done
echo "{\"requests\":$requests,\"sentAgain\":$again,\"failed\":$failed,\"written\":$((2 * number))}"
