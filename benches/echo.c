/* A UDP echo that sets the QR bit: what receiving and sending cost here without any DNS in between.
 *
 * Usage: echo ADDRESS PORT. It batches with recvmmsg and sendmmsg, as a fast DNS server does, and so is the floor that
 * side_by_side.py compares with. It answers any datagram and must never be reachable from a network. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH 32
#define SIZE 2048

int main(int argc, char **argv)
{
	static char buffers[BATCH][SIZE];
	static struct mmsghdr messages[BATCH];
	static struct iovec vectors[BATCH];
	static struct sockaddr_in peers[BATCH];
	struct sockaddr_in address = { .sin_family = AF_INET };
	int buffer_size = 4 << 20;

	if (argc != 3 || !inet_aton(argv[1], &address.sin_addr)) {
		fprintf(stderr, "usage: echo ADDRESS PORT\n");
		return 2;
	}
	address.sin_port = htons((unsigned short)atoi(argv[2]));
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0) {
		perror("socket");
		return 1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer_size, sizeof buffer_size);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_size, sizeof buffer_size);
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		perror("bind");
		return 1;
	}
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			vectors[i] = (struct iovec){ .iov_base = buffers[i], .iov_len = SIZE };
			memset(&messages[i], 0, sizeof messages[i]);
			messages[i].msg_hdr.msg_iov = &vectors[i];
			messages[i].msg_hdr.msg_iovlen = 1;
			messages[i].msg_hdr.msg_name = &peers[i];
			messages[i].msg_hdr.msg_namelen = sizeof peers[i];
		}
		int received = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		if (received <= 0)
			continue;
		for (int i = 0; i < received; i++) {
			vectors[i].iov_len = messages[i].msg_len;
			if (messages[i].msg_len > 2)
				buffers[i][2] |= (char)0x80;
		}
		for (int sent = 0; sent < received;) {
			int n = sendmmsg(fd, messages + sent, received - sent, 0);
			if (n <= 0)
				break;
			sent += n;
		}
	}
}
