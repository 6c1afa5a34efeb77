"""How people say it: requests and questions in many wordings, and small talk with its answers."""

COUNT_WORDS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]  # fmt: skip
DRAW = (
    "draw {}", "draw {}", "draw me {}", "please draw {}", "can you draw {}", "paint {}", "show me {}",
    "make a picture of {}", "i want a picture of {}", "a picture of {}", "picture {}", "could you paint {} please",
    "i would like to see {}", "{}",
)  # fmt: skip
FILM = (
    "make a clip of {}", "a clip of {}", "show me a clip of {}", "make a video of {}", "animate {}",
    "make a movie of {}", "please make a clip where {}", "film {}", "can you make a clip of {}",
)  # fmt: skip
SEE = (
    "what do you see", "what do you see", "what is in the picture", "describe the picture", "what is this",
    "tell me what you see", "what is on the picture", "describe this", "what can you see", "look at this",
    "what does it show",
)  # fmt: skip
WATCH = (
    "what moves", "what moves", "what happens", "what do you see", "what happens in the clip", "describe the clip",
    "what is moving", "tell me what happens", "what do you see in the clip", "how does it move",
)  # fmt: skip
BACKGROUND = ("what colour is the background", "which colour is behind it", "what is the background")
WHICH = ("what is it", "what is this thing", "which thing is it")
SAY = ("say {}", "say {}", "please say {}", "read this aloud {}", "speak {}", "say aloud {}", "can you say {}")
LISTEN = ("what note is this", "what do you hear", "what sound is this", "which note do you hear", "name the note")
WHICH_NOTES = (
    "which notes are these",
    "what notes do you hear",
    "name the notes",
    "what do you hear",
    "what tune is this",
)
PLAY = ("play {}", "play me {}", "please play {}", "make the sound of {}", "i want to hear {}", "can you play {}")
SOUND_OF = (
    "make the sound of {}", "make the sound of {}", "what does {} sound like", "how does {} sound", "sound like {}",
    "what sound does {} make", "let me hear {}", "i want to hear {}", "play the sound of {}",
)  # fmt: skip
WHAT_SOUNDS = ("what is this", "what do you hear", "what sound is this", "what makes this sound", "who is that")
ITS_SOUND = ("how does it sound", "what sound does it make", "make its sound", "what does it sound like")
DRAW_HEARD = (
    "draw it",
    "draw what you hear",
    "show me what this is",
    "paint what you hear",
    "draw what makes this sound",
)
HEARD = ("what did i say", "what do you hear", "write down what i say", "write what you hear", "what am i saying")
TALK = (
    (("hello", "hi", "hello there", "good morning", "hi primer", "hey", "good evening", "hi there"),
     ("Hello! Show me something or ask me to draw.", "Hello! What shall I draw for you?")),
    (("who are you", "what are you", "what is your name", "tell me about yourself"),
     ("I am Primer, a small model that reads, sees, hears and watches.",)),
    (("what can you do", "help", "what do you know", "how can you help me", "what should i ask"),
     ("I can draw, make clips, speak, and tell you what I see and hear.",)),
    (("thank you", "thanks", "thank you very much", "well done", "great"), ("You are welcome!",)),
    (("how are you", "how do you do", "are you well"), ("I am fine. What shall I draw for you?",)),
    (("bye", "goodbye", "see you later", "good night"), ("Goodbye! Come back soon.",)),
)  # fmt: skip
STORY = (
    "tell me a story about {}", "tell me a story about {}", "tell a story about {}", "a story about {}",
    "tell me a story of {}", "can you tell me a story about {}", "make up a story about {}",
    "please tell a story about {}",
)  # fmt: skip
STORY_OF_TWO = tuple(f"{one[: one.index('{}')]}{{}} and {{}}" for one in STORY)
STORY_OF_WHAT = (
    "tell me a story",
    "tell me a story please",
    "tell a story",
    "a story please",
    "can you tell me a story",
)
CLAIMS = ("this is {}", "is this {}", "i think this is {}", "it is {}", "is it {}")
ABOUT = {  # a thing, or several
    "place": ("where is the {0}",),
    "colour": ("what colour is the {0}",),
    "size": ("is the {0} big or small",),
    "number": ("how many {1} are there", "how many {1} do you see"),
}
IS_THERE = ("is there {}", "do you see {}", "can you see {}")
