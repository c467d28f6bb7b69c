#!/usr/bin/bash
# Runs one command in a node for whoever knows the secret. In: the secret and the command, each ended by a zero byte, then
# the command's standard input. Out: all that it prints, then a line with the secret and its exit status.
read -r -d '' secret
read -r -d '' command
[ "$secret" = "$(</run/mooring/secret)" ] || exit 1
cd /root || exit 1
# Whoever accepted the connection ignores the end of its children, and what it starts would inherit that.
env --default-signal /usr/bin/bash -c "$command" 2>&1
printf '\n%s exit %d\n' "$secret" $?
# A connection that is closed with input unread is reset, and with it goes what is still on its way out.
exec cat >/dev/null
