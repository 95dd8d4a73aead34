# Every address in SERVERS answers for NAME by UDP and TCP, and READY is 200. Needs dig and curl.
# Option 65053 comes back from nodens alone: without it somebody else, such as kube-dns in its place, has answered.
failed=0
for server in $SERVERS; do
  for transport in +notcp +tcp; do
    reply=$(dig "@$server" -p "$PORT" "$transport" +time=2 +tries=3 +ednsopt=65053 "$NAME" A 2>&1)
    case $reply in
      *"status: NOERROR"*OPT=65053*) echo "ok: $server $transport $NAME" ;;
      *"status: NOERROR"*) echo "not answered by nodens, but by another: $server $transport $NAME"; failed=1 ;;
      *) echo "no answer: $server $transport $NAME"; echo "$reply"; failed=1 ;;
    esac
  done
done
if [ -n "$READY" ]; then
  if curl -fsS --max-time 5 "$READY"; then echo "ok: $READY"; else echo "not ready: $READY"; failed=1; fi
fi
exit $failed
