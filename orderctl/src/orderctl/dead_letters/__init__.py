"""Dead letters: messages that could not be obeyed, looked at and sent again.

A letter lies on the topic of the group that could not obey it, with the reason in its headers.
Nothing marks it as done, and nothing takes it away but its topic's retention; so whether it still
matters is asked of the inbox of its service, which knows what was obeyed. To replay a letter twice
is safe for as long as that inbox remembers. What a letter holds is text of others: nothing here
trusts it, keeps more of it than it must, or prints it as it came.

Read in this order:

- `letter`: what a letter is, and the place where it lies;
- `reading`: letters from their topics; `selection`: which are meant; `causes`: how many of each;
- `inboxes`: what was obeyed since; `advice`: what helps with a letter, which is pure;
- `judging`: whether a letter is replayed, which is pure; `sending`: publishing; `replaying`: one
  call, from finding to telling;
- `text`: letters for people; `options` and the `…_command` modules: the command line.
"""
