# Compiler flags of every target, through the interface target sae_flags.
add_library(sae_flags INTERFACE)
target_compile_definitions(sae_flags INTERFACE _DEFAULT_SOURCE SAE_VERSION="${PROJECT_VERSION}")
target_compile_options(sae_flags INTERFACE -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
                                           -ffp-contract=off) # fused multiply-add only where a kernel asks: same bits on every machine level
target_link_libraries(sae_flags INTERFACE OpenMP::OpenMP_C m)
if(SAE_WERROR)
  target_compile_options(sae_flags INTERFACE -Werror)
endif()
if(SAE_SANITIZE)
  target_compile_options(sae_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_link_options(sae_flags INTERFACE -fsanitize=address,undefined)
endif()
if(SAE_FUZZ)
  target_compile_options(sae_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
